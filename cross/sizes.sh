#!/usr/bin/env bash
# Builds what devices get and fails where it has grown beyond what the project promises.
#
#   cross/sizes.sh aarch64|armv7|x86_64
#
# On ARM that is 3 MB for chat and 5 MB for all tasks. x86_64 has kernels for four instruction sets, and 1 MB more for them.
set -euo pipefail
[ $# = 1 ] || { echo "sizes.sh: expected one target: aarch64, armv7 or x86_64" >&2; exit 1; }
more=0
[ "$1" != x86_64 ] || more=1
for promise in '3 chat' '5 chat,translate,detect'; do
    read -r limit features <<<"$promise"
    echo "$features:"
    "$(dirname "$0")/build.sh" "$1" --features "$features" --limit $((limit + more))
done
