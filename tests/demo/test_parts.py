import subprocess
import sys

from wissel.demo.parts import free_port


def test_a_port_is_given_to_one_process_only():
    ours = {free_port() for _ in range(100)}
    code = "from wissel.demo.parts import free_port; print(*(free_port() for _ in range(800)))"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert len(ours) == 100
    assert ours.isdisjoint(map(int, theirs))
