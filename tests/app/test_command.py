"""The command line of ``distpro``: commands, options, errors and exit codes."""
import re
import subprocess
import sys

import pytest
from folder_runs import ROOT

from distpro_app.main import main

CONFIG = str(ROOT / 'configs' / 'distpro' / 'search.py')
PAIR = ['--pair', 'resnet20_resnet8-half_digits']


@pytest.mark.parametrize('arguments, code, message', [
    (['distil'], 2, "No such command 'distil'. Did you mean 'distill'?"),
    (['distill', '--techer', 'timm:resnet18'], 2, 'No such option: --techer'),
    (['distill', '--techer', 'timm:resnet18'], 2, '--teacher'),
    (['distill', '--data', 'photos', '--method', 'kdd'], 2, "'kdd' is not one of"),
    (['distill', '--data', 'photos', '--teacher', 'timm:resnet18'], 2, 'give --student, or --settings'),
    (['distill', '--settings', 'none.json'], 1, "error: settings='none.json': there is no such file"),
    (['train', CONFIG, '--pair', 'nonsense'], 1, 'error: --pair nonsense: there is no such pair; nearest: '),
    (['train', CONFIG, 'lr', *PAIR], 1, "error: 'lr' is not of the form KEY=VALUE"),
    (['search', str(ROOT / 'configs/distpro/distill.py'), *PAIR], 1, 'is not a search: give a config such as'),
    (['search', CONFIG, 'model.teacher_ckpt=none.pth', *PAIR], 1, "error: model.teacher_ckpt='none.pth': there is no such"),
    (['test', CONFIG, 'none.pth', *PAIR], 1, "error: checkpoint='none.pth': there is no such file"),
    (['export', CONFIG], 2, 'a config needs its checkpoint'),
    (['export', CONFIG, 'none.pth', *PAIR], 1, "error: checkpoint='none.pth': there is no such file"),
    (['export', CONFIG, 'none.pth', *PAIR, '--formats', 'onnx'], 1, "error: checkpoint='none.pth': there is no such file"),
    (['export', CONFIG, 'none.pth', *PAIR, '--formats', 'onx'], 1, "error: formats='onx': 'onx' is not one of mm, pt2"),
    (['export', 'nowhere', '--formats', 'mm'], 1, "error: formats='mm': 'mm' is not one of pt2, onnx, none"),
    (['export', 'nowhere'], 1, "error: 'nowhere' has no finished run of distpro distill"),
    (['compare', 'none.py'], 1, "error: there is no benchmark 'none.py'"),
    (['compare', 'none.py', '--jobs', '0'], 2, "Invalid value for '--jobs'"),
    (['process', 'show', 'genral'], 1, "error: there is no process file 'genral'"),
    (['validate', 'nowhere'], 1, "error: 'nowhere' is not a folder of configs"),
])
def test_wrong_input_is_one_message_and_an_exit_code(arguments, code, message, command):
    done = command(*arguments)
    assert done.returncode == code and message in done.stderr and 'Traceback' not in done.stderr
    assert code == 2 or len(done.stderr.strip().splitlines()) == 1


def test_a_config_is_inspected_as_by_the_tool(command, tool):
    arguments = [CONFIG, *PAIR]
    wanted = tool('inspect_pathways', *arguments, '--cfg-options', 'model.distiller.connections=nearest_depth')
    done = command('inspect', *arguments, 'model.distiller.connections=nearest_depth')
    assert done.returncode == 0 and done.stdout == wanted.stdout and 'stem>stem:pointwise' in done.stdout


def test_processes_are_listed_and_averaged(command, tmp_path):
    assert '| general ' in command('process', 'list').stdout
    done = command('process', 'average', 'general', '--out', 'mine.json')
    assert done.returncode == 0 and (tmp_path / 'mine.json').exists()


def test_the_help_has_every_command_with_examples(command):
    commands = re.findall(r'^  (\w+)  ', command('--help').stdout.partition('Commands:')[2], re.M)
    assert {'distill', 'train', 'search', 'test', 'compare', 'inspect', 'export', 'report', 'validate',
            'process'} == set(commands)
    for name in set(commands) - {'process'}:
        assert f'\n  distpro {name} ' in command(name, '--help').stdout, name


def test_without_typer_a_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'typer', None)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    assert main() == 1
    assert capsys.readouterr().err == ("error: the command distpro needs typer, which is not installed: pip install "
                                       "'distpro_mm[app]'\n")


def test_the_core_and_the_package_import_no_library_of_the_command():
    code = ('import sys, distpro, distpro_app, distpro_app.run; print({"typer", "torchvision", "PIL", "onnx", "mmengine", '
            '"distpro_mm"} & set(sys.modules))')
    done = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, cwd=ROOT)
    assert done.stdout == 'set()\n', done.stderr
