# What build-deb and build-rpm have in common; they source it from the top of the repository, with $from, where they were called.
# shellcheck shell=bash

PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C.UTF-8 TZ=UTC
umask 022

usage() {
    cat <<USAGE
$0 [--program PATH [--for-test]] [--revision N] [--out DIRECTORY] [--no-symbols]

Builds the package and prints its path last. Without --program the release is built first, without the demonstration.
--for-test    packs a program with the demonstration in it as well, of which the package's records say nothing
--revision    what follows the version, 1 if not given
--out         where packages go, target/packages if not given
--no-symbols  leaves out the package with the debug symbols
USAGE
}

fail() {
    printf '%s: %s\n' "$0" "$*" >&2
    exit 1
}

options() {
    program='' for_test=no revision=1 out='' symbols=yes
    while (($#)); do
        case $1 in
        --program | --revision | --out)
            (($# > 1)) || fail "$1 needs a value"
            case $1 in
            --program) program=$(cd "$from" && realpath -m "$2") ;;
            --revision) revision=$2 ;;
            --out) out=$(cd "$from" && realpath -m "$2") ;;
            esac
            shift 2
            ;;
        --no-symbols) symbols=no && shift ;;
        --for-test) for_test=yes && shift ;;
        --help | -h) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
        esac
    done
    [[ $revision =~ ^[0-9][0-9A-Za-z.~+]*$ ]] || fail "--revision: $revision is not a number"
}

# Installs the Debian packages that have one of the programs which are not here: need PACKAGE PROGRAM...
packages=()
need() {
    local package=$1 tool
    shift
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { packages+=("$package") && return; }
    done
}
install_needed() {
    need python3 python3
    need binutils objcopy objdump readelf strip
    [[ $program ]] || need gcc cc
    [[ $program || -e /usr/include/stdio.h ]] || packages+=(libc6-dev)
    if ((${#packages[@]})); then
        command -v apt-get >/dev/null || fail "please install ${packages[*]} (there is no apt-get here to do it)"
        (($(id -u) == 0)) || fail "please run as root: apt-get update && apt-get install ${packages[*]}"
        printf '%s: installing %s\n' "$0" "${packages[*]}"
        DEBIAN_FRONTEND=noninteractive apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "${packages[@]}" >/dev/null
    fi
    command -v cargo >/dev/null || fail "cargo is missing: the Rust toolchain of Cargo.toml's rust-version or newer is needed (https://rustup.rs)"
}

# Sets: target_directory, cargo's, whichever of its many ways names it; out, if it was not given.
places() {
    target_directory=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    out=${out:-$target_directory/packages}
}

# Dates in a package are the last commit's, so that the same sources make the same bytes.
dates_and_names() {
    if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then
        SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(stat -c %Y CHANGELOG.md)
    fi
    export SOURCE_DATE_EPOCH
    export MAINTAINER="${DEBFULLNAME:-filmgate maintainers} <${DEBEMAIL:-maintainers@filmgate.example}>"
    version=$(packaging/records version)
}

# Sets: program, target (Rust's name of the platform), deb_arch, rpm_arch, glibc (the oldest that will do).
program_and_platform() {
    if [[ -z $program ]]; then
        # Messages and symbols name sources. Not where they lay on this machine: that is nobody's business, and the same
        # sources have to make the same program anywhere: packaging/same-anywhere sees to it.
        local here=$PWD crates=${CARGO_HOME:-$HOME/.cargo}
        CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$here=filmgate"$'\x1f'"--remap-path-prefix=$crates=cargo" \
            CFLAGS="-ffile-prefix-map=$here=filmgate -ffile-prefix-map=$crates=cargo" cargo build --locked --release --bin filmgate
        program=$target_directory/release/filmgate
    fi
    [[ -x $program ]] || fail "$program is not a program"
    # The embedded S3 names its sources in messages, as everything does.
    [[ $for_test == yes ]] || ! grep --quiet --text --extended-regexp '/s3s(-fs)?-[0-9]' "$program" ||
        fail "$program has the demonstration in it, which no package has: build it without, or say --for-test"
    local machine
    machine=$(readelf -h "$program" | sed -n 's/^ *Machine: *//p')
    case $machine in
    *X86-64*) target=x86_64-unknown-linux-gnu deb_arch=amd64 rpm_arch=x86_64 ;;
    AArch64) target=aarch64-unknown-linux-gnu deb_arch=arm64 rpm_arch=aarch64 ;;
    *) fail "$program is for $machine, which has no package" ;;
    esac
    glibc=$(objdump -T "$program" | grep -o 'GLIBC_[0-9][0-9.]*' | sort -Vu | tail -n 1)
    glibc=${glibc#GLIBC_}
    # Debian 12 has 2.36. A program built on something newer must not pretend to run there.
    [[ $(printf '%s\n2.36\n' "$glibc" | sort -V | tail -n 1) == 2.36 ]] || fail "$program needs glibc $glibc; Debian 12 has 2.36. Build it there."
    # The C library and the unwinder of gcc: whatever else it wants, the packages do not ask for.
    local library
    for library in $(objdump -p "$program" | sed -n 's/^ *NEEDED *//p'); do
        case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-*) ;;
        *) fail "$program needs $library, which the packages do not name" ;;
        esac
    done
}

# One file with its mode: put MODE FILE PATH-IN-THE-PACKAGE
put() {
    install -D -m "$1" "$2" "$root$3"
}

# Fills $root with everything but the symbols and what is particular to one kind of package.
# Documents may name each other; a package holds them all in one directory.
lay_out() {
    local doc=/usr/share/doc/filmgate file
    put 755 "$program" /usr/bin/filmgate
    strip --strip-all --remove-section=.comment --remove-section=.note "$root/usr/bin/filmgate"
    put 644 packaging/filmgate.toml /etc/filmgate/filmgate.toml

    # Taken by where they stand, so that a new one needs no line here.
    for file in systemd/*.service systemd/*.socket systemd/*.target; do
        [[ ! -f $file ]] || put 644 "$file" "/usr/lib/systemd/system/${file##*/}"
    done
    for file in systemd/{modules-load.d,sysusers.d,tmpfiles.d}/*.conf; do
        [[ ! -f $file ]] || put 644 "$file" "/usr/lib/${file#systemd/}"
    done
    # Changes nothing by itself: to be looked at and copied.
    for file in systemd/sysctl.d/* systemd/*.service.d/* systemd/examples/*; do
        [[ ! -f $file ]] || put 644 "$file" "$doc/examples/${file##*/}"
    done

    put 644 packaging/man/filmgate.8 /usr/share/man/man8/filmgate.8
    put 644 packaging/man/filmgate.toml.5 /usr/share/man/man5/filmgate.toml.5
    gzip -9n "$root"/usr/share/man/man*/*
    put 644 packaging/completions/filmgate.bash /usr/share/bash-completion/completions/filmgate
    put 644 packaging/completions/filmgate.fish /usr/share/fish/vendor_completions.d/filmgate.fish

    for file in packaging/docs/*.md README.md; do
        put 644 "$file" "$doc/${file##*/}"
    done
    sed -i 's|](packaging/docs/|](|g' "$root$doc/README.md"
    packaging/records copyright "$target" >"$root$doc/copyright"
    packaging/records sbom "$target" >"$root$doc/sbom.cdx.json"
    chmod 644 "$root$doc"/{copyright,sbom.cdx.json}
}

# Fills $1 with the symbols, where debuggers look for them. Sets build_id.
lay_out_symbols() {
    build_id=$(readelf -n "$program" | sed -n 's/^ *Build ID: *//p')
    [[ $build_id ]] || fail "$program has no build ID, by which debuggers find its symbols"
    local file=$1/usr/lib/debug/.build-id/${build_id:0:2}/${build_id:2}.debug
    mkdir -p "${file%/*}"
    objcopy --only-keep-debug --compress-debug-sections "$program" "$file"
    chmod 644 "$file"
}

# What packages of both kinds do after an upgrade: packaging/restart.sh in place of the line @restart@ of $1.
with_restart() {
    sed -e '/^@restart@$/{r packaging/restart.sh' -e 'd}' "$1"
}

# All times in $1 as SOURCE_DATE_EPOCH has it.
same_times() {
    find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}
