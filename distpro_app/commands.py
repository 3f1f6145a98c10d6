"""The commands: of a folder of images, of configs, and of processes."""
import os
import sys
from typing import Annotated, Literal

import typer

from distpro.errors import ArgumentError

from .folder_options import FORMATS_HELP, settings_of, with_options
from .settings import formats_of
from .toolbox import read_config, run_toolbox

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=(
    'Knowledge distillation with DistPro: from a folder of images, or from configs of OpenMMLab.'))
process = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=(
    'List, show, compare, convert and average processes: those of the library by name, and process files by path.'))
app.add_typer(process, name='process')

Config = Annotated[str, typer.Argument(help='Config file, such as configs/distpro/search.py.')]
Options = Annotated[list[str] | None, typer.Argument(
    metavar='KEY=VALUE', help='Settings that override those of the config, such as train_cfg.max_epochs=10.')]
Pair = Annotated[str | None, typer.Option(help='Pair of teacher and student, a file in configs/_base_/pairs.')]
WorkDir = Annotated[str | None, typer.Option(help='Folder for logs and checkpoints; by default '
                                                'work_dirs/<pair>/<config name>.')]
Resume = Annotated[str | None, typer.Option(metavar='CHECKPOINT|auto', help='Continue from this checkpoint, or with '
                                               '"auto" from the latest one in the work_dir.')]
Amp = Annotated[bool, typer.Option('--amp', help='Mixed precision: float16 on a GPU, bfloat16 on a CPU.')]
Profile = Annotated[bool, typer.Option('--profile', help='Log the cost of a step every 50 iterations.')]
Launcher = Annotated[Literal['none', 'pytorch', 'slurm', 'mpi'], typer.Option(help='Job launcher.')]


@app.command('distill', no_args_is_help=True)
@with_options
def _distill(**given) -> None:
    """Distil a student on a folder of images, and export it.

    \b
    distpro distill --data photos --teacher timm:resnet50 --student timm:mobilenetv3_small_100
    distpro distill --data photos --teacher timm:resnet18 --teacher-weights random --train-teacher 30 \\
                    --student timm:resnet10t
    distpro distill --data photos --teacher timm:vit_small_patch14_dinov2 --student timm:resnet18 --no-labels
    distpro distill --settings distilled/settings.json --epochs 100 --out longer
    distpro distill --settings distilled/settings.json --resume
    """
    from .images import is_run
    from .results import table
    from .run import distill_folder
    resume, file = bool(given.pop('resume')), given.pop('settings')
    folder = os.path.dirname(file or '') or '.'
    if resume and file and given['out'] is None and is_run(folder):
        given['out'] = folder  # which may have been moved
    settings = settings_of(given, file)
    try:
        summary = distill_folder(settings, resume, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print(f'interrupted: distpro distill --settings {settings.out}/settings.json --resume continues after the last '
              'epoch', file=sys.stderr)
        raise typer.Exit(130) from None
    print(f'\n{table(summary)}\n')
    for name, path in summary['files'].items():
        print(f'{name}: {path}')
    print(f'settings, to change and run again: distpro distill --settings {settings.out}/settings.json --out OTHER')


@app.command('train', no_args_is_help=True)
def _train(config: Config, options: Options = None, pair: Pair = None, work_dir: WorkDir = None, resume: Resume = None,
           amp: Amp = False, profile: Profile = False, launcher: Launcher = 'none') -> None:
    """Train a teacher, a baseline, a search or a distillation from a config.

    \b
    distpro train configs/teachers/wrn-40-2_cifar100.py
    distpro train configs/distpro/distill.py --pair vgg13_vgg8_cifar100 train_cfg.max_epochs=10
    """
    run_toolbox(lambda toolbox: toolbox.train(read_config(config, options, pair), work_dir, resume, amp, profile, launcher))


@app.command('search', no_args_is_help=True)
def _search(config: Config, options: Options = None, pair: Pair = None, work_dir: WorkDir = None, resume: Resume = None,
            amp: Amp = False, profile: Profile = False, launcher: Launcher = 'none') -> None:
    """Search a process from a config, and write process.json.

    \b
    distpro search configs/distpro/search.py --pair vgg13_vgg8_cifar100
    """
    run_toolbox(lambda toolbox: toolbox.search(read_config(config, options, pair), work_dir, resume, amp, profile, launcher))


@app.command('test', no_args_is_help=True)
def _test(config: Config, checkpoint: Annotated[str, typer.Argument(help='Checkpoint, or an exported student.')],
          options: Options = None, pair: Pair = None, work_dir: WorkDir = None, launcher: Launcher = 'none') -> None:
    """Evaluate a network, or the student of a distillation, on the test set of a config.

    \b
    distpro test configs/distpro/distill.py work_dirs/vgg13_vgg8_cifar100/distill/epoch_240.pth --pair vgg13_vgg8_cifar100
    """
    run_toolbox(lambda toolbox: toolbox.evaluate(read_config(config, options, pair), checkpoint, work_dir, launcher))


@app.command('compare', no_args_is_help=True)
def _compare(benchmark: Annotated[str, typer.Argument(help='Benchmark config, such as configs/benchmarks/digits.py.')],
             work_dir: Annotated[str | None, typer.Option(help='Folder of all results; by default '
                                                             'work_dirs/benchmark_<name>.')] = None,
             teacher_ckpt: Annotated[str | None, typer.Option(help='A checkpoint of the teacher; no teacher is trained '
                                                                 'then.')] = None,
             method: Annotated[list[str] | None, typer.Option(help="One of the benchmark's methods; may be repeated. By "
                                                                 'default all.')] = None,
             jobs: Annotated[int | None, typer.Option(min=1, help='Trainings at a time; by default one per GPU, or per '
                                                         'core; on a cluster as many as it has room for.')] = None,
             engine: Annotated[Literal['local', 'ray'], typer.Option(help='What trains: this machine, or the nodes of a Ray '
                                                                     'cluster.')] = 'local',
             address: Annotated[str | None, typer.Option(help="Of the Ray cluster: 'auto', the default, 'local' or "
                                                              '<host>:<port>.')] = None,
             cpus: Annotated[int | None, typer.Option(help='Cores of a training on a Ray cluster; by default 1.')] = None,
             gpus: Annotated[float | None, typer.Option(help='GPUs of a training on a Ray cluster; by default 1 if it has '
                                                             'any.')] = None,
             memory: Annotated[float | None, typer.Option(help='GiB of main memory of a training on a Ray cluster; by '
                                                               'default not counted.')] = None) -> None:
    """Compare methods: train every method of a benchmark, and write tables and figures.

    \b
    distpro compare configs/benchmarks/digits.py --method kd --method distpro
    distpro compare configs/benchmarks/digits.py --engine ray --gpus 0.25
    """
    run_toolbox(lambda toolbox: toolbox.compare(benchmark, work_dir, teacher_ckpt, method, jobs, engine, address=address,
                                                cpus=cpus, gpus=gpus, memory=memory))


@app.command('inspect', no_args_is_help=True)
def _inspect(config: Config, options: Options = None, pair: Pair = None) -> None:
    """Show the layers, the pathways and their costs that a config selects. Needs no data or weights.

    \b
    distpro inspect configs/distpro/search.py --pair vgg13_vgg8_cifar100
    """
    run_toolbox(lambda toolbox: toolbox.inspect_pathways(read_config(config, options, pair)))


@app.command('export', no_args_is_help=True)
def _export(source: Annotated[str, typer.Argument(help='Folder of a finished distpro distill, or a config file.')],
            checkpoint: Annotated[str | None, typer.Argument(help='Checkpoint, with a config.')] = None,
            options: Options = None, pair: Pair = None,
            out: Annotated[str | None, typer.Option(help='Folder to write to; by default the folder of the run, or '
                                                       'student.')] = None,
            formats: Annotated[str | None, typer.Option(help=f'{FORMATS_HELP} By default pt2,onnx. Of a config, also mm: a '
                                                        'plain model of its toolbox, the default.')] = None) -> None:
    """Export a student: of a folder's run to pt2 and ONNX, of a config to a plain model of its toolbox, pt2 and ONNX.

    \b
    distpro export distilled --formats onnx
    distpro export configs/distpro/distill.py work_dirs/vgg13_vgg8_cifar100/distill/epoch_240.pth --out student
    distpro export configs/distpro/distill.py work_dirs/vgg13_vgg8_cifar100/distill/epoch_240.pth --formats mm,onnx
    """
    if source.endswith('.py'):
        if checkpoint is None:
            raise typer.BadParameter('a config needs its checkpoint', param_hint='CHECKPOINT')
        from .config_export import CONFIG_FORMATS, TOOLBOX, export_config
        chosen = formats_of(formats or TOOLBOX, CONFIG_FORMATS)
        run_toolbox(lambda toolbox: export_config(toolbox, read_config(source, options, pair), checkpoint, chosen,
                                                  out or 'student'))
        return
    if checkpoint is not None or options or pair:
        raise ArgumentError(f"'{source}' is a folder of distpro distill, for which CHECKPOINT, KEY=VALUE and --pair have no "
                            'meaning; a config ends in .py')
    from .results import export_run
    for name, path in export_run(source, formats_of(formats or 'pt2,onnx'), out).items():
        print(f'{name}: {path}')


@app.command('report', no_args_is_help=True)
def _report(source: Annotated[str, typer.Argument(help='work_dir of a training or a comparison; or a process file.')]
            ) -> None:
    """Write report.html from the files of a finished run.

    \b
    distpro report work_dirs/benchmark_digits
    """
    run_toolbox(lambda toolbox: toolbox.report(source))


@app.command('validate')
def _validate(configs: Annotated[str, typer.Argument(help='Folder of the configs.')] = 'configs',
              pair: Annotated[list[str] | None, typer.Option(help='Check only this pair, and no benchmarks; may be '
                                                                'repeated.')] = None,
              build: Annotated[bool, typer.Option('--build', help='Build the models too; takes seconds per model.')] = False
              ) -> None:
    """List the configs in a folder that cannot be trained.

    \b
    distpro validate configs --pair vgg13_vgg8_cifar100 --build
    """
    run_toolbox(lambda toolbox: toolbox.validate(configs, pair, build))


@process.command('list')
def _list() -> None:
    """The processes that can be used by name.

    \b
    distpro process list
    """
    run_toolbox(lambda toolbox: toolbox.list_processes())


@process.command('show', no_args_is_help=True)
def _show(process: str, png: Annotated[str | None, typer.Option(help='Draw the weights to this file.')] = None) -> None:
    """Where a process comes from, and its weights.

    \b
    distpro process show general --png general.png
    distpro process show work_dirs/vgg13_vgg8_cifar100/search/process.json
    """
    run_toolbox(lambda toolbox: toolbox.show(process, png))


@process.command('diff', no_args_is_help=True)
def _diff(process: str, other: str) -> None:
    """Weights of two processes, at the depths of the first.

    \b
    distpro process diff general digits/resnet20-resnet8
    """
    run_toolbox(lambda toolbox: toolbox.diff(process, other))


@process.command('convert', no_args_is_help=True)
def _convert(process: str, config: Config, out: Annotated[str, typer.Option(help='The process file to write.')],
             options: Options = None, pair: Pair = None) -> None:
    """Map a process to the pathways of a config by depth, and write it.

    \b
    distpro process convert general configs/distpro/equal.py --pair vgg13_vgg8_cifar100 --out process.json
    """
    run_toolbox(lambda toolbox: toolbox.convert(process, read_config(config, options, pair), out))


@process.command('average', no_args_is_help=True)
def _average(processes: list[str], out: Annotated[str, typer.Option(help='The process file to write.')],
             layers: Annotated[int, typer.Option(help='Layers of teacher and student, 2 or more.')] = 4,
             knots: Annotated[int, typer.Option(help='Points of the training, 2 or more.')] = 4) -> None:
    """Write the mean of several processes over relative depths.

    \b
    distpro process average first.json second.json --out mean.json
    """
    run_toolbox(lambda toolbox: toolbox.average(processes, out, layers, knots))
