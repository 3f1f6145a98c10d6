#!/usr/bin/env bash
# Tests, a teacher, step costs and a comparison on a GPU, each part with its own time limit (see docs/gpu.md).
#   bash benchmarks/gpu/run.sh [--rehearse] [teacher] [tests] [price] [compare] [steps] [suite]
# Results go to $OUT (work_dirs/gpu). $PYTHON (python3) needs torch; .gpu/site of pack.sh has the rest.
set -u
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-work_dirs/gpu}
REHEARSE=
[ "${1:-}" = --rehearse ] && REHEARSE=--rehearse && shift
PARTS=${*:-teacher tests price compare steps}
mkdir -p "$OUT"
export PYTHONPATH=$PWD/.gpu/site:$PWD OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/mpl
export CUBLAS_WORKSPACE_CONFIG=:4096:8 CIFAR100=cifar100_folder
JOBS=${JOBS:-8} WORKERS=${WORKERS:-8} PRICE='--turns 7 --steps 10' METHODS=${METHODS:-}
if [ -n "$REHEARSE" ]; then
    export DISTPRO_REHEARSE=1 EPOCHS=3 TEACHER_EPOCHS=1
    JOBS=1 WORKERS=0 PRICE='--turns 1 --steps 1'
fi
[ -d .gpu/site ] || tar -xzf .gpu/site.tar.gz -C .gpu
[ -d data/cifar100 ] || "$PYTHON" benchmarks/gpu/packed.py unpack .gpu/cifar100.npz data/cifar100
BENCHMARK=configs/benchmarks/cifar100_gpu.py
TEACHER=${TEACHER:-work_dirs/resnet32x4_cifar100_short/epoch_${TEACHER_EPOCHS:-30}.pth}

part() {  # part SECONDS NAME COMMAND...
    local limit=$1 name=$2 start=$SECONDS
    shift 2
    [ -n "$REHEARSE" ] && limit=$((10 * limit))
    timeout $HOW "$limit" "$@" > "$OUT/$name.log" 2>&1
    echo "$name: exit code $? after $((SECONDS - start)) s; $OUT/$name.log"
    tail -n "${LINES_SHOWN:-25}" "$OUT/$name.log" | cut -c1-180
}

for name in $PARTS; do
    HOW='-k 5'
    [ "$name" = tests ] || wait
    case $name in
    teacher)  # while the tests run
        LINES_SHOWN=4 part "${LIMIT_TEACHER:-150}" teacher "$PYTHON" tools/train.py configs/teachers/resnet32x4_cifar100_short.py &
        ;;
    tests | suite)
        HOW='--foreground -s INT -k 15'  # pytest reports the tests that it has run
        TESTS="env -u CIFAR100 $PYTHON -m pytest -q -rfE -p no:cacheprovider -n $WORKERS --timeout 100"
        [ $name = tests ] && part "${LIMIT_TESTS:-80}" tests $TESTS -m gpu tests/gpu
        [ $name = suite ] && part "${LIMIT_SUITE:-150}" suite $TESTS -m 'not long and not gpu' ${SUITE:-tests}
        ;;
    price) part "${LIMIT_PRICE:-70}" price "$PYTHON" benchmarks/method_price.py $BENCHMARK --teacher-ckpt "$TEACHER" $PRICE ;;
    compare)
        HOW='-s INT -k 10'
        part "${LIMIT_COMPARE:-330}" compare "$PYTHON" tools/compare.py $BENCHMARK --teacher-ckpt "$TEACHER" --jobs "$JOBS" $METHODS
        "$PYTHON" benchmarks/carry_runs.py pack --half work_dirs/benchmark_cifar100_gpu "$OUT/cifar100_gpu"
        ;;
    steps) part "${LIMIT_STEPS:-130}" steps "$PYTHON" benchmarks/step_price.py --out "$OUT" $REHEARSE ${STEPS:-} ;;
    *) echo "error: '$name' is not one of teacher, tests, price, compare, steps, suite"; exit 2 ;;
    esac
done
wait
