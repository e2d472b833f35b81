"""Print what is at a URL, with httpx on a stack of one's own: fetch.py [--vif NAME] URL.

httpx knows nothing of the stack: it opens its connections by trio, and looks
names up by trio, and both are the stack's while that is installed.
"""

import argparse
import sys

import httpx
import trio

from pfinet_client.stack import StackError, open_stack


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vif", help="default: your only one")
    parser.add_argument("url")
    arguments = parser.parse_args()
    try:
        async with open_stack(arguments.vif) as stack:
            stack.install()
            async with httpx.AsyncClient() as client:
                response = await client.get(arguments.url, follow_redirects=True)
                response.raise_for_status()
                print(response.text)
    except (StackError, OSError, httpx.HTTPError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    trio.run(main)
