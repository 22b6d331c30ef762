"""The command line in processes of its own: output, exit codes, refusals that write nothing."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
from helpers import ENVIRONMENT, PROGRAM, accord, example_config, heed_interrupts, refusal, tree

from accord import __version__

COMMANDS = [
    "init",
    "doctor",
    "check",
    "run",
    "vary",
    "retrieve",
    "train",
    "weigh",
    "merge",
    "generate",
    "evaluate",
    "compare",
    "report",
    "list",
]
HEAVY = [
    "torch",
    "transformers",
    "spacy",
    "numpy",
    "pydantic",
    "rich",
    "yaml",
    "jinja2",
    "bm25s",
    "sacrebleu",
    "httpx",
    "jmespath",
]


def loaded_by(code):
    listing = "import sys; print(*{m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import atexit\natexit.register(lambda: exec({listing!r}))\n{code}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stderr.split())


def test_help_and_import_load_nothing_heavy():
    assert not loaded_by(f"import sys; sys.argv[1:] = ['--help']\n{PROGRAM}") & set(HEAVY)
    assert not loaded_by("import accord") & set(HEAVY)


def test_list_and_check_load_no_torch(tmp_path):
    heavy = {"torch", "transformers", "spacy", "sentence_transformers"}
    assert not loaded_by(f"import sys; sys.argv[1:] = ['list']\n{PROGRAM}") & heavy


def test_help_takes_less_than_half_a_second_of_cpu():
    def used():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    spent = []
    for _ in range(3):
        before = used()
        assert accord("--help").returncode == 0
        spent.append(used() - before)
    assert min(spent) < 0.5


def test_version_and_help_name_every_command():
    assert accord("--version").stdout == f"accord {__version__}\n"
    shown = accord("--help").stdout
    assert all(re.search(rf"^  {name} +[A-Z]", shown, re.MULTILINE) for name in COMMANDS)
    assert "..." not in shown.partition("Commands:")[2]  # no summary is cut


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_quiet_and_verbose(name):
    shown = accord(name, "--help").stdout
    assert all(re.search(rf"(^|\W){option}\b", shown) for option in ("--json", "--quiet", "-v"))


@pytest.mark.parametrize(
    "args",
    [
        ["flea"],
        ["run"],
        ["run", "x.yaml", "--limit", "0"],
        ["run", "x.yaml", "--seed", "-1"],
        ["run", "x.yaml", "--no-such-option"],
        ["vary", "qa.jsonl", "-o", "x", "-k", "0"],
        ["evaluate", "a.jsonl", "-o", "s.json"],
    ],
)
def test_usage_errors_end_with_2(tmp_path, args):
    done = accord(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not any(tmp_path.iterdir())


@pytest.fixture
def config(tmp_path, tiny_llama):
    return example_config(tmp_path / "home", tiny_llama)


def test_a_new_folder_from_init_passes_check_and_varies(tmp_path):
    done = accord("init", "mine", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["folder"] == "mine"
    checked = accord("check", "mine/accord.yaml", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert {f["level"] for f in json.loads(checked.stdout)} <= {"ok", "note"}
    assert "ready to run" in accord("check", "mine/accord.yaml", cwd=tmp_path).stdout
    kinds = ["--types", "how_to_do,i_we"]
    made = accord("vary", "mine/qa.jsonl", "-o", "v.jsonl", *kinds, "--json", cwd=tmp_path)
    counts = json.loads(made.stdout)
    for name, part in (("v.jsonl", "made"), ("v.skipped.jsonl", "skipped")):
        lines = (tmp_path / name).read_text().splitlines()
        assert len(lines) == sum(count[part] for count in counts.values())


def test_init_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    before = tree(tmp_path)
    assert "not empty" in refusal(accord("init", cwd=tmp_path))
    assert "not empty" in refusal(accord("init", "note.txt", cwd=tmp_path))
    assert "note.txt" in refusal(accord("init", "note.txt/below", cwd=tmp_path), code=1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("args", [["list"], ["list", "methods"], ["run", "CONFIG", "--dry-run"]])
def test_json_is_alone_on_stdout(config, args, tmp_path):
    args = [config if a == "CONFIG" else a for a in args]
    json.loads(accord(*args, "--json", cwd=tmp_path).stdout)


def test_quiet_says_nothing_and_progress_goes_to_stderr(config, tmp_path):
    args = ["run", config, "--until", "retrieve", "-o", tmp_path / "run"]
    first = accord(*args, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"run": str(tmp_path / "run")}
    assert "1/8 vary" in first.stderr
    again = accord(*args, "--quiet", "--json")
    assert again.stderr == "" and json.loads(again.stdout)


def test_verbose_shows_the_traceback(tmp_path):
    assert "Traceback" not in accord("run", "none.yaml", cwd=tmp_path).stderr
    assert "Traceback" in accord("run", "none.yaml", "-v", cwd=tmp_path).stderr


def test_a_dry_run_writes_nothing_and_knows_what_is_kept(config, tmp_path):
    folder = tmp_path / "run"
    args = ["run", config, "-o", folder]
    plan = json.loads(accord(*args, "--dry-run", "--json").stdout)
    assert list(plan) == [
        "vary",
        "retrieve",
        "train",
        "weigh",
        "merge",
        "generate",
        "evaluate",
        "report",
    ]
    assert set(plan.values()) == {"to do"} and not folder.exists()
    assert accord(*args, "--until", "retrieve").returncode == 0
    before = tree(tmp_path)
    plan = json.loads(accord(*args, "--dry-run", "--json").stdout)
    assert [s for s, what in plan.items() if what == "kept"] == ["vary", "retrieve"]
    forced = ["--force", "vary", "--until", "retrieve"]
    plan = json.loads(accord(*args, *forced, "--dry-run", "--json").stdout)
    assert plan == {"vary": "to do", "retrieve": "to do"}
    assert tree(tmp_path) == before


def test_an_interrupt_ends_with_130_and_the_work_can_go_on(config, tmp_path):
    command = [sys.executable, "-c", PROGRAM, "run", config, "-o", tmp_path / "run"]
    until = ["--until", "retrieve"]
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        preexec_fn=heed_interrupts,
    )
    events = tmp_path / "run" / "events.jsonl"
    deadline = time.monotonic() + 60
    while not (events.is_file() and '"train", "event": "began"' in events.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = (stream.decode() for stream in process.communicate(timeout=60))
    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err
    assert err.splitlines()[-1].startswith("accord: interrupted")
    again = accord("run", config, "-o", tmp_path / "run", *until)
    assert again.returncode == 0 and "vary: kept" in again.stderr


def test_an_interrupt_that_lands_in_a_finaliser_is_not_lost(tmp_path):
    """Python only prints what is raised in `__del__`, and goes on."""
    shim = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import accord.example as example

class Finalised:
    def __del__(self):
        raise KeyboardInterrupt

def write(folder):
    Finalised()
    time.sleep(60)
    return []

example.write_example = write
"""
    done = accord("init", tmp_path / "new", shim=shim)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1].startswith("accord: interrupted")


def test_a_second_process_is_kept_out(config, tmp_path):
    from accord.runs import Run

    first = Run(tmp_path / "run")
    first.open({})
    before = tree(tmp_path)
    message = refusal(accord("run", config, "-o", tmp_path / "run", "-q"), code=1)
    assert "another process" in message and str(tmp_path / "run") in message
    assert tree(tmp_path) == before
    first.close()


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MiB, where the machine lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_too_small_is_seen_before_work_starts(config, tiny_disk):
    (tiny_disk / "ballast").write_bytes(b"x" * 900_000)
    message = refusal(accord("run", config, "-o", tiny_disk / "run", "-q"))
    assert "no space left" in message and str(tiny_disk) in message
    assert [p.name for p in tiny_disk.iterdir()] == ["ballast"]


def test_a_disk_that_fills_up_ends_in_one_sentence_and_can_be_resumed(config, tiny_disk):
    ballast = tiny_disk / "ballast"
    shim = "import accord.check as c; c.base_bytes = lambda name: 0"
    ballast.write_bytes(b"x" * (1_048_576 - 24 * 1024))
    args = ["run", config, "-o", tiny_disk / "run", "--until", "retrieve", "-q"]
    message = refusal(accord(*args, shim=shim), code=1)
    assert "no space left" in message and "resume" in message
    ballast.unlink()
    assert accord(*args, shim=shim).returncode == 0


@pytest.mark.slow
def test_a_disk_that_fills_up_while_training_is_one_sentence_too(config, tiny_disk):
    shim = "import accord.check as c; c.base_bytes = lambda name: 0"
    args = ["run", config, "-o", tiny_disk / "run", "--until", "train", "-q"]
    message = refusal(accord(*args, shim=shim), code=1)
    assert "no space left" in message.lower()
