"""`python -m afina` is the command `afina`."""

from afina.cli import main

main()
