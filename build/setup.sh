#!/usr/bin/env bash
# Installs what is missing and is quick when nothing is: Debian packages (with apt-get when root, else it
# says what to install), .venv, node_modules.
#   build/setup.sh demo   what building and serving the demo takes
#   build/setup.sh dev    that, and what linting and testing take
set -euo pipefail
cd "$(dirname "$0")/.."
level=${1:-dev}

# program it is looked up by: Debian package that brings it
declare -A packages=([clang-19]=clang-19 [wasm-ld-19]=lld-19 [chromium]=chromium [node]=nodejs [npm]=npm [git]=git)
if [[ $level == dev ]]; then
  packages+=([emcc]=emscripten [llvm-objdump-19]=llvm-19 [clang-format-19]=clang-format-19
    [firefox-esr]=firefox-esr [qemu-aarch64]=qemu-user)
fi
missing=()
# the sanitizers' and libFuzzer's runtime has no program of its own
if [[ $level == dev ]] && ! ls /usr/lib/llvm-19/lib/clang/19/lib/*/libclang_rt.fuzzer* >/dev/null 2>&1; then
  missing+=(libclang-rt-19-dev)
fi
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || missing+=(python3)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "ruvq needs these Debian packages, which are not installed: ${missing[*]}" >&2
    echo "install them (sudo apt-get install ${missing[*]}) and run this again" >&2
    exit 1
  fi
  echo "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

npm ci --silent --no-audit --no-fund & # while pip waits for its downloads
scripts=$!
[[ -x .venv/bin/python ]] || python3 -m venv .venv
extras=bench,wheel
pinned=()
# of this version indexes have files without the gigabytes of CUDA, and pip prefers those
[[ $level == dev ]] && extras+=,dev,train && pinned+=(torch==2.13.0)
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" "${pinned[@]}" ||
  { wait $scripts; exit 1; }
wait $scripts
