"""The command line: lab/lab COMMAND."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from . import access, qemu
from .build import build as build_lab
from .build import build_path, is_built
from .cache import cache_dir
from .console import attach
from .counter import read_counter, show_counter
from .errors import LabError
from .lab import Lab, labs
from .progress import console

named = click.option("--name", default="default", show_default=True, help="Which lab.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Real Xen hosts in QEMU: build them, start them, look at them, cut their power."""


def timed(doing: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Print how long a command took."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **options: Any) -> None:
            start = time.monotonic()
            function(*args, **options)
            console.print(f"{doing}: [bold]{time.monotonic() - start:.1f} s[/bold]")

        inner.__name__, inner.__doc__ = function.__name__, function.__doc__
        inner.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        return inner

    return wrap


@cli.command()
@click.option("--fresh", is_flag=True, help="Start again from the mirror, whatever is cached.")
@timed("build")
def build(fresh: bool) -> None:
    """Build hosts and guest from the Debian mirror (cached; nothing to do when the inputs are the same)."""
    click.echo(build_lab(fresh=fresh))


@cli.command()
@named
@click.option("--hosts", type=int, default=None, help="Number of hosts: 2 (default) or 3.")
@click.option("--cold", is_flag=True, help="Boot from empty disks, do not use the saved state.")
@timed("up")
def up(name: str, hosts: int | None, cold: bool) -> None:
    """Start the lab (building what is missing): from its saved state in seconds."""
    Lab(name).up(hosts=hosts, cold=cold)


@cli.command()
@named
@timed("down")
def down(name: str) -> None:
    """Stop the lab: nothing of it is left running."""
    Lab(name).down()


@cli.command()
@named
@timed("reset")
def reset(name: str) -> None:
    """Return to the saved state."""
    Lab(name).reset()


@cli.command()
@named
@timed("destroy")
def destroy(name: str) -> None:
    """Stop the lab and remove its disks (build and saved state stay)."""
    Lab(name).destroy()


@cli.command()
@click.option("--name", default=None, help="Only this lab.")
def status(name: str | None) -> None:
    """Show the labs, their hosts, ports and processes."""
    table = Table("lab", "host", "power", "ssh port", "link", "resident MiB")
    for lab in [Lab(name)] if name else labs():
        running, current = lab.running(), lab.state
        for host in lab.hosts:
            pid = running.get(host)
            link = resident = "-"
            if pid is not None:
                with qemu.Monitor(lab.directory / host, timeout=5) as monitor:
                    link = "cut" if "link=down" in monitor.human("info network") else "ok"
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                resident = str(pages * os.sysconf("SC_PAGE_SIZE") >> 20)
            table.add_row(lab.name, host, f"on ({pid})" if pid else "off", str(current.ports[host]), link, resident)
    console.print(f"cache {cache_dir()}, build {build_path().name} " + ("(there)" if is_built() else "(not built yet)"))
    console.print(table)


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@named
@click.option("--oneadmin", is_flag=True, help="As oneadmin with the frontend's key (default: root, equipment only).")
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, oneadmin: bool, node: str, command: tuple[str, ...]) -> None:
    """Log in on NODE, or run COMMAND there (its words are joined for the remote shell, as ssh does)."""
    lab = Lab(name)
    if node not in lab.hosts:
        raise LabError(f"lab {name} has no host {node!r}", "its hosts are " + ", ".join(lab.hosts))
    config = lab.ssh_config if oneadmin else lab.root_config
    argv = ["ssh", "-F", str(config), *(["-t"] if not command and sys.stdin.isatty() else []), node, *command]
    os.execvp(argv[0], argv)


@cli.command(name="console")
@named
@click.argument("machine")
def console_command(name: str, machine: str) -> None:
    """Connect to the console of a host (nodeN) or of a guest, wherever it runs; Ctrl-] leaves."""
    lab = Lab(name)
    if machine in lab.hosts:
        attach(lab.directory / machine / "console.sock")
        return
    for host in lab.running():
        if lab.root(host, ["xl", "domid", machine], check=False).returncode == 0:
            argv = [
                "ssh",
                "-F",
                str(lab.root_config),
                "-tt",
                host,
                *access.ssh_argv(lab.root_config, host, ["xl", "console", machine])[5:],
            ]
            os.execvp(argv[0], argv)
    raise LabError(f"no host runs a guest {machine!r}", "run `lab/lab ssh node1 xl list`")


@cli.command()
@named
@click.option("--lines", default=50, show_default=True)
@click.argument("machine")
def logs(name: str, lines: int, machine: str) -> None:
    """Show the end of the console of a host (nodeN) or of a guest."""
    click.echo(Lab(name).console_tail(machine, lines))


@cli.command()
@named
@click.argument("action", type=click.Choice(["off", "on", "reset"]))
@click.argument("node")
@timed("power")
def power(name: str, action: str, node: str) -> None:
    """Cut the power of NODE, boot it again from its disks, or both."""
    lab = Lab(name)
    {"off": lab.power_off, "on": lab.power_on, "reset": lab.power_reset}[action](node)


@cli.command()
@named
@click.argument("action", type=click.Choice(["cut", "restore"]))
@click.argument("node", required=False)
def link(name: str, action: str, node: str | None) -> None:
    """Cut or restore the network between the hosts (of NODE only, or of all)."""
    lab = Lab(name)
    (lab.cut_link if action == "cut" else lab.restore_link)(node)


@cli.command()
@click.argument("image", type=click.Path(allow_dash=True))
@click.option("--json", "as_json", is_flag=True)
def counter(image: str, as_json: bool) -> None:
    """Read the guest's counter in a raw disk image (or standard input): last tick, holes, torn records."""
    stream = sys.stdin.buffer if image == "-" else open(image, "rb")  # noqa: SIM115 - lives as long as the process
    found = read_counter(stream)
    click.echo(show_counter(found, as_json))
    if found.holes or found.torn:
        sys.exit(1)


def main() -> None:
    """Entry point: errors become one line and exit status 1."""
    try:
        cli(standalone_mode=False)
    except LabError as error:
        console.print(f"[bold red]lab:[/bold red] {error}", markup=True, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        console.print(f"[bold red]lab:[/bold red] {error}", soft_wrap=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        console.print("lab: interrupted", style="red")
        sys.exit(130)
