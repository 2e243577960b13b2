#!/usr/bin/env python3
"""Test double of OpenNebula's rsync backup datastore, on the frontend itself: backup, ls, rm, and the downloader.

It takes what the shipped driver takes and prints what that prints; installed under the name of each action. Backups
lie in <BASE_PATH>/<vm>/<id>. Every URL names a whole chain, rsync://<datastore>/<job>/<increment>:<id>,…/<path>.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

Element = ElementTree.Element


def _text(root: Element, path: str) -> str:
    return (root.findtext(path) or "").strip()


def _directory(argument: str, vm: str) -> tuple[str, str]:
    """(host, the directory with the files), as datastore.conf says."""
    host, _, path = argument.partition(":")
    conf = Path(os.environ["ONE_LOCATION"]) / "var/remotes/etc/datastore/datastore.conf"
    for line in conf.read_text().splitlines() if conf.exists() else ():
        key, _, value = line.partition("=")
        if key.strip() == "BACKUP_BASE_PATH":
            path = f"{value.strip().strip(chr(34))}/{vm}"
    return host, os.path.normpath(f"{path}/backup")


def backup(argv: list[str]) -> str:
    """`backup`: all files of the host's directory; which must hold disks and vm.xml, regular files."""
    root = ElementTree.fromstring(sys.stdin.read())
    vm = argv[4]
    host, directory = _directory(argv[0], vm)
    host = _text(root, "VM/BACKUPS/BACKUP_CONFIG/LAST_BRIDGE") or host
    name = os.urandom(3).hex()
    target = Path(os.path.normpath(_text(root, "DATASTORE/BASE_PATH"))) / vm / name
    target.mkdir(parents=True)

    def cancelled(*_: object) -> None:
        shutil.rmtree(target, ignore_errors=True)
        sys.exit(f"Backup cancelled: {name}")

    signal.signal(signal.SIGTERM, cancelled)
    command = f"set -e; ls {directory}/disk.* > /dev/null; tar -C {directory} -cS ."
    source = subprocess.Popen(["ssh", host, command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    done = subprocess.run(["tar", "-x", "-C", str(target)], stdin=source.stdout, check=False)
    if source.wait() or done.returncode:
        shutil.rmtree(target)
        sys.exit("Error copying backup")
    files = [one for one in target.iterdir() if one.is_file() and not one.is_symlink()]
    if not any(one.name == "vm.xml" for one in files):
        sys.exit("Backup has no vm.xml")
    used = sum(one.stat().st_blocks * 512 for one in files)
    return f"{name} {-(-used // (1 << 20))} raw"


def backup_cancel(argv: list[str]) -> str:
    """`backup_cancel`: end the processes named ruby that prepare or store a backup of the domain."""
    listed = subprocess.run(["ps", "--no-headers", "-o", "pid,cmd", "-C", "ruby"], capture_output=True, text=True,
                            check=False).stdout
    for line in listed.splitlines():
        pid, _, command = line.strip().partition(" ")
        if "backup" in command and f" {argv[1]} " in command:
            os.kill(int(pid), signal.SIGTERM)
    return ""


def _increments(image: Element) -> list[tuple[int, str]]:
    found = [(int(_text(one, "ID")), _text(one, "SOURCE")) for one in image.iterfind("BACKUP_INCREMENTS/INCREMENT")]
    return found or [(0, _text(image, "SOURCE"))]


def ls(argv: list[str]) -> str:
    """`ls -i INCREMENT`: {DISK_ID: URL} of the disks in the backup."""
    root = ElementTree.fromstring(sys.stdin.read())
    image, store = root.find("IMAGE"), root.find("DATASTORE")
    if image is None or store is None:
        sys.exit("no IMAGE or DATASTORE")
    wanted = int(argv[argv.index("-i") + 1]) if "-i" in argv else -1
    chain = [one for one in _increments(image) if wanted == -1 or one[0] <= wanted]
    directory = Path(os.path.normpath(_text(store, "BASE_PATH"))) / _text(image, "VMS/ID") / _increments(image)[-1][1]
    url = f"rsync://{_text(store, 'ID')}//{','.join(f'{number}:{name}' for number, name in chain)}"
    files = sorted(one for one in directory.iterdir() if one.is_file() and one.name.startswith("disk."))
    return json.dumps({one.name.split(".")[1]: f"{url}{one}" for one in files})


def rm(_argv: list[str]) -> str:
    """`rm`: all increments of an image."""
    root = ElementTree.fromstring(base64.b64decode(sys.stdin.read()))
    image = root.find("IMAGE")
    if image is not None:
        for _number, name in _increments(image):
            shutil.rmtree(Path(os.path.normpath(_text(root, "DATASTORE/BASE_PATH"))) / _text(image, "VMS/ID") / name,
                          ignore_errors=True)
    return ""


def download(argv: list[str]) -> None:
    """`downloader.sh [--nodecomp] [--max-size N] URL -`: a disk; a chain as one qcow2 image."""
    limit = int(argv[argv.index("--max-size") + 1]) if "--max-size" in argv else None
    _job, _, rest = argv[-2].partition("://")
    _store, _job, chain, path = rest.split("/", 3)
    last = Path(f"/{path}")
    disk = last.name.split(".")[1]
    files = [last.parents[1] / name / f"disk.{disk}.{number}"
             for number, name in (one.split(":") for one in chain.split(","))]
    with tempfile.TemporaryDirectory() as place:
        source = files[0] if len(files) == 1 else _merged(files, Path(place))
        with source.open("rb") as stream:
            if limit is not None:
                sys.stdout.buffer.write(stream.read(limit))
                return
            shutil.copyfileobj(stream, sys.stdout.buffer)


def _merged(files: list[Path], place: Path) -> Path:
    for backing, one in zip(files, files[1:]):
        subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(backing), str(one)], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(files[-1]), str(place / "disk")], check=True)
    return place / "disk"


def main() -> None:
    """The action is the name by which this file was called."""
    name = Path(sys.argv[0]).name
    if name == "downloader.sh":
        download(sys.argv[1:])
        return
    answer = {"backup": backup, "backup_cancel": backup_cancel, "ls": ls, "rm": rm}[name](sys.argv[1:])
    if answer:
        print(answer)


main()
