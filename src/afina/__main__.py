"""The command `afina`, also as `python -m afina`; from its first moment on Ctrl-C ends it with 130."""

import os
import sys


def main() -> None:
    """Run the command line; an interruption leaves with 130 even where Python would die of the signal itself."""
    try:
        from afina.cli import main as command

        command()
    except SystemExit as end:
        if end.code != 130:
            raise
    except KeyboardInterrupt:
        pass
    # Python ends with SIGINT instead of the code where Ctrl-C came while a library was compiling text (`exec`).
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
