#!/usr/bin/env python3
"""Holds PROTOCOL.md and a node against a client written from the document alone.

    conformance.py                                        the document only
    conformance.py --address HOST:PORT --plan-json FILE   the document, then the node

FILE holds {"sender": {"endpoint", "key_id", "key", "key_name", "channel"}, "receiver": {"endpoint", "key_id", "key"},
"forbidden_channel": a channel that the sender is not granted (may be left out)}. The receiver must hear the sender's
channel and nobody else may send to it meanwhile. One line for each check; exit code 0 only if all pass.
"""

import argparse
import inspect
import json
import sys
import traceback
import unittest

sys.dont_write_bytecode = True

import document  # noqa: E402
import node  # noqa: E402


def run(check, *arguments):
    """One line: what was checked and where it went wrong, if it did."""
    title = inspect.getdoc(check)
    try:
        check(*arguments)
    except unittest.SkipTest as reason:
        print(f"skip   {title}: {reason}", flush=True)
        return None
    except Exception as error:  # every kind of failure is a failed check
        where = traceback.extract_tb(error.__traceback__)[1]
        print(f"FAILED {title}: {type(error).__name__}: {error} ({where.name}, line {where.lineno})", flush=True)
        return False
    print(f"ok     {title}", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="HOST:PORT of a running node")
    parser.add_argument("--plan-json", help="credentials for it")
    parser.add_argument("--stop", type=int, metavar="PID", help="the node's process, ended by the last check")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this")
    arguments = parser.parse_args()
    if bool(arguments.address) != bool(arguments.plan_json):
        parser.error("--address and --plan-json go together")

    checks = [(check,) for check in document.CHECKS]
    if arguments.address:
        host, port = arguments.address.rsplit(":", 1)
        with open(arguments.plan_json) as file:
            subject = node.Node((host.strip("[]"), int(port)), json.load(file), arguments.stop)
        checks += [(check, subject) for check in node.CHECKS]
    results = [run(*check) for check in checks if arguments.only in check[0].__name__]
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    return 0 if True in results and False not in results else 1


if __name__ == "__main__":
    sys.exit(main())
