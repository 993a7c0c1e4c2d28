"""`python -m wissel` is `wissel`."""

from wissel.cli import main

main()
