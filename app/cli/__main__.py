"""The command `digits`: what it needs is imported only once it is known to be needed.

`digits serve` is the service and no more: it needs nothing of the extra `cli`, and has nothing of it in memory.
"""

import sys


def main() -> None:
    """Run the command. Exit status 0: done, every picture read; 1: not, or not every one; 2: wrong usage."""
    if sys.argv[1:] == ["serve"]:
        from app.server import main as serve

        serve()
        return
    try:
        from app.cli.commands import run
    except ModuleNotFoundError as error:
        if error.name not in {"httpx2", "rich", "typer"}:
            raise
        sys.exit(f"digits: {error.name} is not installed, which all but `digits serve` needs: pip install '.[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)  # as Typer has it once the command runs
    run()


if __name__ == "__main__":
    main()
