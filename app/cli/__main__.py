"""The command `digits`. `digits serve` imports nothing of the extra `cli`."""

import sys


def main() -> None:
    """Run the command. Exit status 0: every picture was read; 1: some were not, or it failed; 2: wrong usage."""
    if sys.argv[1:] == ["serve"]:
        from app.server import main as serve

        serve()
        return
    try:
        from app.cli.commands import run
    except ModuleNotFoundError as error:
        if error.name not in {"httpx2", "rich", "typer"}:
            raise
        sys.exit(f"digits: {error.name} is not installed; without it only `digits serve` works: pip install '.[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)  # Typer's status
    run()


if __name__ == "__main__":
    main()
