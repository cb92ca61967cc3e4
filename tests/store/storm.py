"""Kill a process that works, again and again; those are forked from here, where all is imported already.

python storm.py random FOLDER KILLS: at random moments; prints what each kill left.
python storm.py each FOLDER: at every single call to the operating system.
python storm.py race FOLDER PROCESSES: none is killed, all work at the same; prints how many shards each committed.
These are started anew.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy  # noqa: F401
import pyarrow.parquet  # noqa: F401
from faults import struck
from small_work import COLUMNS, compute, contents, leftovers, small_plan

from seewhy.store import Store

PATIENCE = 100  # seconds after which a process that hangs is one that failed


def forked(job: Callable[[], object]) -> int:
    """The number of a process that does the job."""
    if number := os.fork():
        return number
    signal.alarm(PATIENCE)
    try:
        job()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def ended(number: int) -> int:
    """How a process ended: minus the signal, or its exit status, which must be 0."""
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code


def work(folder: Path, items: int = 60) -> Callable[[], object]:
    return lambda: Store(folder).open(small_plan(items)).run(compute)


def whole(folder: Path, reference: dict[str, bytes]) -> int:
    """How many files there are under their names; each must be whole."""
    found = {name: data for name, data in contents(folder).items() if not name.endswith(".part")}
    assert found.items() <= reference.items(), sorted(found)
    return len(found)


def shards(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.parquet"))


def wait_for(folder: Path, number: int, files: int) -> None:
    """Until so many shards are there, or the process that makes them has ended (and waits to be asked how)."""
    while shards(folder) < files:
        if os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0005)


def at_random(folder: Path, kills: int, work: Callable[[Path], Callable[[], object]] = work) -> None:
    chance = random.Random(20)
    lasts = []
    for name in ("reference", "again", "and again"):  # the quickest: a busy machine may hold one up for long
        began = time.perf_counter()
        assert ended(forked(work(folder / name))) == 0
        lasts.append(time.perf_counter() - began)
    reference = contents(folder / "reference")
    pause = min(lasts) / len(reference)
    left = []
    place = 0
    while len(left) < kills:
        here = folder / str(place)
        number = forked(work(here))
        # At a random file of those still to come, not after a random time: a busy machine would never get there.
        there = shards(here)
        wait_for(here, number, chance.randint(there, max(there, len(reference) - 1)))
        time.sleep(chance.uniform(0, pause))
        os.kill(number, signal.SIGKILL)
        if ended(number):
            left.append((whole(here, reference), len(leftovers(here))))
            place += left[-1][0] == len(reference)  # killed on its way out: the next begins anew
        else:
            assert contents(here) == reference
            place += 1
    assert ended(forked(work(folder / str(place)))) == 0
    assert contents(folder / str(place)) == reference
    print(json.dumps({"left": left, "files": len(reference)}))


def at_each_call(folder: Path) -> None:
    assert ended(forked(work(folder / "reference", 7))) == 0
    reference = contents(folder / "reference")

    def die(name: str, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if name == "write":
            descriptor, data = arguments
            function(descriptor, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def killed(here: Path, call: int) -> Callable[[], None]:
        def job() -> None:
            with struck(call, die):
                work(here, 7)()

        return job

    left = []
    here = folder / "here"
    for call in range(10_000):
        here.mkdir()
        died = ended(forked(killed(here, call)))
        left.append((whole(here, reference), len(leftovers(here))))
        assert ended(forked(work(here, 7))) == 0
        assert contents(here) == reference
        shutil.rmtree(here)
        if not died:
            break
    print(json.dumps({"left": left, "files": len(reference)}))


def race(folder: Path, processes: int) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, __file__, "racer", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(processes)
    ]
    for racer in racers:
        assert racer.stdout.readline() == b"ready\n"
    for racer in racers:
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    for racer in racers:
        made, _ = racer.communicate(timeout=PATIENCE)
        assert racer.returncode == 0
        print(int(made))


def racer(folder: Path) -> None:
    plan = small_plan(60, columns={**COLUMNS, "who": "int64"})

    def signed(items):
        return [row if len(row) == 1 else {**row, "who": os.getpid()} for row in compute(items)]

    here = Store(folder).open(plan)
    print("ready", flush=True)
    sys.stdin.readline()
    made = sum(here.complete(number, signed) for number in range(plan.shards))
    here.run(signed)
    print(made)


if __name__ == "__main__":
    if sys.argv[1] == "random":
        at_random(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "each":
        at_each_call(Path(sys.argv[2]))
    elif sys.argv[1] == "race":
        race(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        racer(Path(sys.argv[2]))
