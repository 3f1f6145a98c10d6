#!/usr/bin/env bash
# Tests, step costs and trainings on a GPU, each part with its own time limit (see docs/gpu.md).
#   bash benchmarks/gpu/run.sh [--rehearse] [tests] [steps] [train]
# Results go to $OUT (work_dirs/gpu). $PYTHON (python3) needs torch; .gpu/site of pack.sh has the rest.
set -u
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-work_dirs/gpu}
REHEARSE=
[ "${1:-}" = --rehearse ] && REHEARSE=--rehearse && shift
[ -n "$REHEARSE" ] && export DISTPRO_REHEARSE=1
PARTS=${*:-tests steps train}
mkdir -p "$OUT"
export PYTHONPATH=$PWD/.gpu/site:$PWD OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/mpl
export CUBLAS_WORKSPACE_CONFIG=:4096:8

part() {  # part SECONDS NAME COMMAND...
    local limit=$1 name=$2 start=$SECONDS
    shift 2
    [ -n "$REHEARSE" ] && limit=$((10 * limit))
    timeout $HOW "$limit" "$@" > "$OUT/$name.log" 2>&1
    echo "$name: exit code $? after $((SECONDS - start)) s; $OUT/$name.log"
    tail -n 25 "$OUT/$name.log" | cut -c1-180
}

for name in $PARTS; do
    HOW='-k 5'
    case $name in
    tests)
        WORKERS=$([ -n "$REHEARSE" ] && echo 0 || echo "${WORKERS:-14}")
        HOW='--foreground -s INT -k 15'  # pytest reports the tests that it has run
        TESTS="$PYTHON -m pytest -v -p no:cacheprovider -n $WORKERS --timeout 100"
        part "${LIMIT_GPU_TESTS:-80}" gpu_tests $TESTS -m gpu tests/gpu
        [ -s .gpu/failed.txt ] && [ -z "$REHEARSE" ] && part "${LIMIT_TESTS:-70}" tests $TESTS @.gpu/failed.txt
        ;;
    steps) part "${LIMIT_STEPS:-130}" steps "$PYTHON" benchmarks/step_price.py --out "$OUT" $REHEARSE ;;
    train) part "${LIMIT_TRAIN:-320}" train "$PYTHON" benchmarks/gpu/train.py --out "$OUT" $REHEARSE ;;
    *) echo "error: '$name' is not one of tests, steps, train"; exit 2 ;;
    esac
done
