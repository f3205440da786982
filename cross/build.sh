#!/usr/bin/env bash
# Builds the program and the C library for devices, and checks on which systems they start.
#
#   cross/build.sh aarch64|armv7|x86_64 [--features F,F,…] [--static] [--limit MB]
#
# Features are those of the program (cli/Cargo.toml), chat,translate,detect unless given. The C library is in a folder of its
# own, libpupil, as it is installed. With --static the program needs nothing of the system but its kernel; there is no
# C library then. Each artefact is printed with its size and the oldest glibc that it starts with, which may be at most
# $PUPIL_GLIBC (2.31: Debian and Raspberry Pi OS 11, Ubuntu 20.04, JetPack 5).
set -euo pipefail
source "$(dirname "$0")/targets.sh"
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || fail "expected a target: aarch64, armv7 or x86_64"
use_target "$1"
shift
features=chat,translate,detect limit= static=
while [ $# -gt 0 ]; do
    case $1 in
        --static) static=yes; shift; continue ;;
        --features | --limit) [ $# -gt 1 ] || fail "$1: expected a value" ;;
        *) fail "'$1' is unknown, expected --features, --limit or --static" ;;
    esac
    [ "$1" = --features ] && features=$2 || limit=$2
    shift 2
done
[[ $limit =~ ^[0-9]*$ ]] || fail "--limit $limit: expected megabytes"

# show FILE WHAT: a line about it.
show() { printf '%6.2f MB  %-10s  %s\n' "$(stat -c %s "$1")e-6" "$2" "$1"; }

# check FILE: shows it with its floor; fails if it is too large or needs more of the system than it should.
check() {
    local floor needed allowed=${PUPIL_GLIBC:-2.31}
    floor=$(readelf --version-info --wide "$1" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1) || true
    show "$1" "${floor:-static}"
    printf '%s\n' "${floor#GLIBC_}" "$allowed" | sort -CV ||
        fail "$1 needs $floor, newer than $allowed: link with an older one, as cross/setup.sh does"
    needed=$(readelf --dynamic --wide "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -vE '^(lib(c|m|dl|rt|pthread|gcc_s)\.so\.[0-9]|ld-linux.*)$') || true
    [ -z "$needed" ] || fail "$1 needs what not every system has: ${needed//$'\n'/ }"
    [ -z "$static" ] || [ -z "$floor" ] || fail "$1 is not static, though --static was given: is RUSTFLAGS set?"
    [ "$(stat -c %s "$1")" -le $((${limit:-1000} * 1000000)) ] || fail "$1 is larger than $limit MB"
}

if [ -n "$static" ]; then
    # By the system's own C library, however new: it is in the program.
    settings=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$triple")
    export "${settings}_LINKER=$gnu-gcc" "${settings}_RUSTFLAGS=-C target-feature=+crt-static"
fi
built=${CARGO_TARGET_DIR:-target}/$triple/dist
cargo build --quiet --locked --profile dist --package pupil-cli --no-default-features --features "$features"
check "$built/pupil"
[ -z "$static" ] || exit 0

library=capi
[[ ! ,$features, =~ ,(detect|bundled|eval|onnx|distill), ]] || library+=,image
[[ ,$features, != *,hf-tokenizer,* ]] || library+=,hf-tokenizer
cargo rustc --quiet --locked --profile dist --package pupil --lib --no-default-features --features "$library" \
    --crate-type staticlib
compiler=CC_${triple//-/_} folder=$built/libpupil
cross/library.sh "$built/libpupil.a" "$folder" "${!compiler}"
check "$folder/lib/$(readlink "$folder/lib/libpupil.so")"
show "$folder/lib/libpupil.a" archive
