"""``vox2vec cache``: what embeddings are kept, and making room."""

from datetime import datetime

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from Vox2VecCore.cli.console import facts, report, size
from Vox2VecCore.cli.options import JsonOption

group = typer.Typer(help="Embeddings kept on disk: list, clear.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(group, name="cache")


@group.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the embeddings in the cache, last used first."""
    from Vox2VecCore.cache import PyramidCache, max_bytes

    cache = PyramidCache()
    entries = cache.entries()
    used, bound = sum(entry.bytes for entry in entries), max_bytes()
    result = {
        "folder": str(cache.folder),
        "bytes": used,
        "max_bytes": bound,
        "entries": [
            {
                "key": entry.key,
                "scan": entry.scan,
                "model": entry.model,
                "bytes": entry.bytes,
                "last_used": datetime.fromtimestamp(entry.last_used).astimezone().isoformat(timespec="seconds"),
                "path": str(entry.folder),
            }
            for entry in entries
        ],
    }

    def human() -> RenderableType:
        head = facts({"Folder": cache.folder, "Used": f"{size(used)} of at most {size(bound)}"})
        if not entries:
            return head
        table = Table(box=None, header_style="cyan")
        for heading in ("Scan", "Model", "Size", "Last used", "Key"):
            table.add_column(heading, overflow="fold", justify="right" if heading == "Size" else "left")
        for entry in entries:
            when = datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M")
            table.add_row(entry.scan, entry.model, size(entry.bytes), when, entry.key[:12])
        return Group(head, "", table)

    report(result, as_json, human)


@group.command("clear")
def clear(as_json: JsonOption = False) -> None:
    """Remove all embeddings; they are computed anew when needed."""
    from Vox2VecCore.cache import PyramidCache

    cache = PyramidCache()
    freed = cache.clear()
    report(
        {"folder": str(cache.folder), "freed_bytes": freed},
        as_json,
        lambda: facts({"Folder": cache.folder, "Freed": size(freed)}),
    )
