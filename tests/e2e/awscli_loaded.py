"""awscli, loaded once: reads the words of a command a line, runs each in its own process, says how it ended."""

import json
import os
import sys

import awscli.clidriver
import awscli.customizations.s3.subcommands  # noqa: F401 (it takes long to load)


def run(words: list[str]) -> int:
    """The exit status; what was said is in `stdout` and `stderr`."""
    child = os.fork()
    if child == 0:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        status = 1
        try:
            sys.argv = ["aws", *words]
            status = awscli.clidriver.main() or 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


for line in sys.stdin:
    os.write(1, b"%d\n" % run(json.loads(line)))
