#!/usr/bin/env bash
# Prepares cross builds on a Debian machine whose rustup cannot fetch the target.
#
#   cross/setup.sh aarch64|armv7|x86_64
#
# The cross gcc and qemu are installed. Other things come from other suites of the machine's own mirror, and are not
# installed but unpacked into $PUPIL_CROSS (~/.cache/pupil-cross): from testing a compiler with the target's standard
# library, unless the machine's own has it; from Debian 11 the C library to link against, because a program starts only
# where glibc is at least as new as the one it was linked with, and a Python to run tests. Run again, it does nothing.
# Only the installation needs root: who builds as somebody else has an administrator install the packages below before.
set -euo pipefail
source "$(dirname "$0")/targets.sh"

[ $# = 1 ] || fail "expected one target: aarch64, armv7 or x86_64"
name_target "$1"
command -v apt-get >/dev/null || fail "this needs apt; elsewhere see cross/README.md for rustup's targets"
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")

packages=("gcc-${gnu//_/-}")
[ $target != x86_64 ] || packages=(gcc)
[ -z "$qemu" ] || packages+=("libc6-dev-$debian-cross" qemu-user)
if ! dpkg-query -W "${packages[@]}" >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "${packages[@]}" >/dev/null
fi
if [ -x "$CROSS/$target/sysroot/usr/bin/python3.9" ]; then
    for compiler in rustc "$CROSS/$target/rustc"; do
        ! command -v "$compiler" >/dev/null || ! has_std "$compiler" || exit 0
    done
fi

new=$CROSS/$target.new
rm -rf "$new"
mkdir -p "$new"

# suite NAME: has apt see that suite only, and nothing as installed.
suite() {
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $codename" | sed -n 1p)
    state=$new/apt-$1
    mkdir -p "$state"/lists/partial "$state"/archives/partial
    touch "$state/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" >"$state/sources.list"
    suite_options=(-qq -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state"
        -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=- -o APT::Sandbox::User=root
        -o APT::Architectures::=amd64 -o APT::Architectures::="$debian" -o Acquire::Languages=none -o Acquire::Retries=3)
    apt-get "${suite_options[@]}" update
}

# unpack FOLDER PACKAGE…: those of the suite, and what else was downloaded from it.
unpack() {
    local folder=$1 archive
    shift
    (cd "$state/archives" && apt-get "${suite_options[@]}" download "$@")
    for archive in "$state"/archives/*.deb; do dpkg-deb --extract "$archive" "$folder"; done
}

if ! has_std rustc; then
    # The compiler's libraries with all that they depend on; of rustc itself that would be a C toolchain too.
    suite testing
    libraries=$(apt-cache "${suite_options[@]}" depends libstd-rust-dev:amd64 |
        sed -n 's/.*Depends: \(libstd-rust-[0-9.]*\).*/\1/p')
    apt-get "${suite_options[@]}" install --yes --download-only --no-install-recommends "$libraries:amd64" >/dev/null
    unpack "$new/rust" rustc:amd64 libstd-rust-dev:amd64 "libstd-rust-dev:$debian"
    for program in rustc rustdoc; do
        # Its glibc is newer than the machine's: it gets its own loader.
        cat >"$new/$program" <<'END'
#!/bin/sh
root=$(dirname "$0")/rust/usr
exec "$root/lib64/ld-linux-x86-64.so.2" --argv0 "$0" --library-path "$root/lib/x86_64-linux-gnu" \
    "$root/bin/$(basename "$0")" "$@"
END
        chmod +x "$new/$program"
    done
    has_std "$new/rustc" || fail "Debian testing's compiler has no standard library for $triple"
fi

suite bullseye
unpack "$new/sysroot" {libc6,libc6-dev,linux-libc-dev,libgcc-s1,libcrypt1}:"$debian" \
    {python3.9-minimal,libpython3.9-minimal,libpython3.9-stdlib,libexpat1,zlib1g,libffi7}:"$debian"
find "$new/sysroot" -type l -lname '/*' | while read -r link; do
    ln -sfn --relative "$new/sysroot$(readlink "$link")" "$link"
done
# A linker of its own, because RUSTFLAGS of the caller would replace what the target needs in them. Debian's gcc looks
# for start files and libraries in its own folders, whatever --sysroot says.
cat >"$new/cc" <<END
#!/bin/sh
root=\$(dirname "\$0")/sysroot
exec $gnu-gcc --sysroot="\$root" -B"\$root/usr/lib/$gnu" -isystem "\$root/usr/include/$gnu" -isystem "\$root/usr/include" \\
    "\$@" -L"\$root/usr/lib/$gnu" -L"\$root/lib/$gnu"
END
chmod +x "$new/cc"

rm -r "$new"/apt-*
rm -rf "${CROSS:?}/$target"
mv "$new" "$CROSS/$target"
