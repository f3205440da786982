# Sourced by the scripts beside it: what targets are called, and where what they need is.

# Where cross/setup.sh puts things.
CROSS=${PUPIL_CROSS:-${XDG_CACHE_HOME:-$HOME/.cache}/pupil-cross}

fail() { echo "${0##*/}: $*" >&2; exit 1; }

# name_target NAME: sets the names that Rust, gcc, Debian and qemu have for it.
name_target() {
    target=$1
    case $target in
        aarch64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu debian=arm64 qemu=qemu-aarch64 ;;
        armv7) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf debian=armhf qemu=qemu-arm ;;
        x86_64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu debian=amd64 qemu= ;;
        *) fail "'$target' is no target, expected aarch64, armv7 or x86_64" ;;
    esac
}

# Whether a compiler has the target's standard library.
has_std() { compgen -G "$("$1" --print sysroot)/lib/rustlib/$triple/lib/libstd-*.rlib" >/dev/null; }

# use_target NAME: names it, and tells cargo how to build for it and to run what was built.
use_target() {
    name_target "$1"
    local variable=${triple//-/_} linker=$gnu-gcc libraries=/usr/$gnu
    if [ -x "$CROSS/$target/cc" ]; then
        linker=$CROSS/$target/cc libraries=$CROSS/$target/sysroot
    fi
    command -v "$linker" >/dev/null || fail "no $linker: install it, or run cross/setup.sh $target"
    if ! has_std "${RUSTC:-rustc}"; then
        [ -x "$CROSS/$target/rustc" ] && has_std "$CROSS/$target/rustc" ||
            fail "no standard library for $triple: rustup target add $triple, or run cross/setup.sh $target"
        export RUSTC=$CROSS/$target/rustc RUSTDOC=$CROSS/$target/rustdoc
    fi
    export CARGO_BUILD_TARGET=$triple
    export "CC_$variable=$linker" "CARGO_TARGET_${variable^^}_LINKER=$linker"
    if [ -n "$qemu" ]; then
        export "CARGO_TARGET_${variable^^}_RUNNER=$qemu -L $libraries"
    fi
}
