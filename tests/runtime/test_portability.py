"""No module needs a POSIX-only one: the package is imported and used with these modules blocked."""

import subprocess
import sys
from pathlib import Path

BLOCKED = """
import builtins, pkgutil, sys
real, posix_only = builtins.__import__, {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty"}

def blocked(name, globals=None, *rest, **named):
    # Other libraries may import them: they have their own ways on Windows.
    if name in posix_only and str((globals or {}).get("__name__")).startswith(("alexnet", "__main__")):
        raise ImportError(f"{name} is blocked")
    return real(name, globals, *rest, **named)

builtins.__import__ = blocked
try:
    import fcntl
except ImportError:
    pass
else:
    sys.exit("the block does not work")
"""


def test_every_module_is_imported_and_images_are_packed_without_posix_only_modules(class_folders: Path, tmp_path: Path):
    code = BLOCKED + """
import alexnet
for module in pkgutil.walk_packages(alexnet.__path__, "alexnet."):
    if not module.name.endswith(("__main__", "_native")) and ".triton_" not in module.name:
        __import__(module.name)
from alexnet.cli.main import main
main(["pack", *sys.argv[1:], "--side", "16"])
"""
    done = subprocess.run([sys.executable, "-c", code, str(class_folders), str(tmp_path / "packed")],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "packed" / "manifest.json").is_file()
    assert not list((tmp_path / "packed").glob("*.lock"))
