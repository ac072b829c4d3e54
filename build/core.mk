# core.mk: builds the C core for its three link targets. Included by the Makefile.
#   native  py/ruvq/core/_native/libruvq.so  for cffi
#   wasm    web/ruvq.wasm                     for JavaScript and Pyodide
#           web/ruvq-threads.wasm             the same with shared memory, for pages that may have threads
#   side    py/ruvq/core/_side/ruvq-relaxed.wasm  for the platform wheel of Pyodide
# V=1 shows the commands. `make wasm CC=emcc` builds the same modules with Emscripten, into out/wasm-emcc.
# `make -f build/core.mk -j 2 FILE...` compiles on several cores; what the Makefile adds, set-up, can't.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
Q := $(if $(V),,@)
CORE_SOURCES := $(sort $(wildcard wasm_kernels/*/*.c))
CORE_HEADERS := $(wildcard wasm_kernels/*/*.h)
# codebooks of ggml's lattice formats, out of the gguf package
CODEBOOKS := out/generated/codebooks.h
CORE_WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
# contraction would fuse multiply and add and change the last bit from machine to machine
CORE_FLAGS := -std=c11 -O3 -ffreestanding -ffp-contract=off -fvisibility=hidden -fno-math-errno -Iout/generated $(CORE_WARNINGS)

# clang-19 unless the caller says otherwise; make's built-in `cc` doesn't count as saying so
ifeq ($(origin CC),default)
CC := clang-19
endif
NATIVE_CC ?= $(if $(filter emcc,$(notdir $(CC))),clang-19,$(CC))
MACHINE := $(shell uname -m)
NATIVE_FLAGS := -fPIC $(if $(filter x86_64,$(MACHINE)),-msse4.1)
NATIVE_LIBRARY := py/ruvq/core/_native/libruvq.so

$(CODEBOOKS): build/generate_codebooks.py
	@echo "  CODEBOOKS  $@"
	$(Q)python=.venv/bin/python; [ -x $$python ] || python=python3; \
	  "$${BUILD_PYTHON:-$$python}" $< $@

# one library a variant: $(call native_variant,name,library,compiler flags)
define native_variant
out/$(1)/%.o: wasm_kernels/%.c $(CORE_HEADERS) $(CODEBOOKS) build/core.mk
	@mkdir -p $$(@D)
	@echo "  CC $(1)  $$<"
	$(Q)$(NATIVE_CC) $(CORE_FLAGS) $(NATIVE_FLAGS) $(3) -c $$< -o $$@

$(2): $(CORE_SOURCES:wasm_kernels/%.c=out/$(1)/%.o)
	@mkdir -p $$(@D)
	@echo "  LD $(1)  $$@"
	$(Q)$(NATIVE_CC) -shared -nostdlib -Wl,-z,defs,-z,noexecstack -o $$@.part $$^ -lpthread -lc
	$(Q)mv $$@.part $$@
endef
$(eval $(call native_variant,native,$(NATIVE_LIBRARY),))
# Arm's dot products come as a second library, and core/native.py asks the processor which one it can run
NATIVE_LIBRARIES := $(NATIVE_LIBRARY)
ifeq ($(MACHINE),aarch64)
NATIVE_LIBRARIES += py/ruvq/core/_native/libruvq-dotprod.so
$(eval $(call native_variant,native-dotprod,py/ruvq/core/_native/libruvq-dotprod.so,-march=armv8.2-a+dotprod))
endif

# ---- WebAssembly ----
# calibration, rounding with error feedback and ggml's encoders are the desktop's: pages would download them
# for nothing
DESKTOP_SOURCES := $(wildcard wasm_kernels/calibrate/*.c wasm_kernels/formats/encode_ggml*.c) \
  $(addprefix wasm_kernels/,formats/encode_feedback.c formats/trellis_feedback.c formats/mixed_feedback.c \
    model/collect.c)
WASM_SOURCES := $(filter-out $(DESKTOP_SOURCES),$(CORE_SOURCES))
WASM_LD ?= wasm-ld-19
WASM_STACK := 262144
WASM_LINK := --no-entry --export-dynamic --gc-sections --strip-all -z stack-size=$(WASM_STACK) --stack-first
WASM_FLAGS := $(CORE_FLAGS) -msimd128 -mbulk-memory
ifeq ($(notdir $(CC)),emcc)
WASM_DIR := out/wasm-emcc
WASM_TARGET := $(WASM_DIR)
# use clang-19 behind Debian's emcc where it is there (emsdk's brings its own)
EMCC_ENV := $(if $(wildcard /usr/lib/llvm-19/bin/clang),EM_LLVM_ROOT=/usr/lib/llvm-19/bin EM_CLANG_ADD_VERSION= EM_LLVM_ADD_VERSION=)
WASM_COMPILE := $(EMCC_ENV) emcc $(WASM_FLAGS)
else
WASM_DIR := out/wasm
WASM_TARGET := web
WASM_COMPILE := $(CC) --target=wasm32 $(WASM_FLAGS)
endif

# code that reads files or is the plain reference runs seldom, and every page downloads it: small before fast
SMALL_SOURCES := $(filter-out %/sha256.c,$(wildcard wasm_kernels/container/*.c)) \
  $(wildcard wasm_kernels/tokenizer/*.c wasm_kernels/formats/ggml*.c) \
  $(addprefix wasm_kernels/,base/base.c formats/compare.c formats/encode.c formats/encode_alpha.c formats/encode_pack.c formats/foreign.c \
    formats/orthogonal.c formats/own.c formats/registry.c formats/self_test.c model/adapter.c model/architecture.c \
    model/hadamard.c model/hyper.c model/model.c model/weights.c)
size_flag = $(if $(filter $(1),$(SMALL_SOURCES)),-Oz)

# one module a variant: $(call wasm_variant,name,compiler flags,linker flags,folder)
define wasm_variant
$(WASM_DIR)/$(1)/%.o: wasm_kernels/%.c $(CORE_HEADERS) $(CODEBOOKS) build/core.mk
	@mkdir -p $$(@D)
	@echo "  CC wasm    $$< ($(1))"
	$(Q)$(WASM_COMPILE) $(2) $$(call size_flag,$$<) -c $$< -o $$@

$(4)/$(notdir $(1)).wasm: $(WASM_SOURCES:wasm_kernels/%.c=$(WASM_DIR)/$(1)/%.o)
	@mkdir -p $$(@D)
	@echo "  LD wasm    $$@"
	$(Q)$(WASM_LD) $(WASM_LINK) $(3) -o $$@.part $$^
	$(Q)mv $$@.part $$@
endef

# workers share the memory, which the host makes with at least 32 pages; each sets its own stack
THREADS_LINK := --shared-memory --import-memory --initial-memory=2097152 --max-memory=4294967296 --export=__stack_pointer
$(eval $(call wasm_variant,ruvq,,,$(WASM_TARGET)))
$(eval $(call wasm_variant,ruvq-threads,-matomics -mmutable-globals,$(THREADS_LINK),$(WASM_TARGET)))
# the same two with relaxed SIMD: web/variants.js chooses
$(eval $(call wasm_variant,ruvq-relaxed,-mrelaxed-simd,,$(WASM_TARGET)))
$(eval $(call wasm_variant,ruvq-threads-relaxed,-mrelaxed-simd -matomics -mmutable-globals,$(THREADS_LINK),$(WASM_TARGET)))
# Debian's emcc knows no relaxed SIMD
WASM_NAMES := ruvq ruvq-threads $(if $(filter emcc,$(notdir $(CC))),,ruvq-relaxed ruvq-threads-relaxed)
WASM_MODULES := $(WASM_NAMES:%=$(WASM_TARGET)/%.wasm)

# ---- fuzzers: libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer ----
FUZZ_CC := clang-19
FUZZ_FLAGS := -std=c11 -O2 -g -ffp-contract=off -fno-sanitize-recover=all -Iout/generated \
  -fsanitize=address,undefined
FUZZ_TARGETS := file tokenizer model shards adapter
FUZZ_PROGRAMS := $(FUZZ_TARGETS:%=out/fuzz/fuzz_%) out/fuzz/mutate_file

.SECONDARY: $(CORE_SOURCES:wasm_kernels/%.c=out/fuzz/core/%.o)
out/fuzz/core/%.o: wasm_kernels/%.c $(CORE_HEADERS) $(CODEBOOKS) build/core.mk
	@mkdir -p $(@D)
	@echo "  CC fuzz    $<"
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -c $< -o $@

out/fuzz/mutate_file: tests/fuzz/fuzz_file.c tests/fuzz/build_file.h $(CORE_SOURCES:wasm_kernels/%.c=out/fuzz/core/%.o)
	@echo "  LD fuzz    $@"
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -DRQ_FUZZ_MAIN $< $(filter %.o,$^) -lpthread -o $@

out/fuzz/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/build_file.h $(CORE_SOURCES:wasm_kernels/%.c=out/fuzz/core/%.o)
	@echo "  LD fuzz    $@"
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer $< $(filter %.o,$^) -lpthread -o $@

# ---- side module: the core in Pyodide's own heap, for the platform wheel ----
# Emscripten's ABI without Emscripten: position-independent, what it lacks (malloc, free) comes from Pyodide.
# Not named .so, or micropip would load it on every install, in browsers that can't run it too.
SIDE_MODULE := py/ruvq/core/_side/ruvq-relaxed.wasm
SIDE_CC ?= $(NATIVE_CC)
SIDE_FLAGS := --target=wasm32-unknown-emscripten -fPIC -DRQ_SIDE_MODULE $(CORE_FLAGS) -msimd128 -mbulk-memory -mrelaxed-simd
SIDE_LINK := -shared --experimental-pic --unresolved-symbols=import-dynamic --gc-sections --strip-all

out/side/%.o: wasm_kernels/%.c $(CORE_HEADERS) $(CODEBOOKS) build/core.mk
	@mkdir -p $(@D)
	@echo "  CC side    $<"
	$(Q)$(SIDE_CC) $(SIDE_FLAGS) $(call size_flag,$<) -c $< -o $@

$(SIDE_MODULE): $(WASM_SOURCES:wasm_kernels/%.c=out/side/%.o)
	@mkdir -p $(@D)
	@echo "  LD side    $@"
	$(Q)$(WASM_LD) $(SIDE_LINK) -o $@.part $^
	$(Q)mv $@.part $@

# ---- the same sources with a clock inside, for build/bench/token_profile.py; nothing of it ships ----
PROFILE := out/bench/profile
$(eval $(call native_variant,native-profile,$(PROFILE)/libruvq.so,-DRQ_PROFILE))
$(eval $(call wasm_variant,profile/ruvq,-DRQ_PROFILE,,$(PROFILE)))
$(eval $(call wasm_variant,profile/ruvq-relaxed,-DRQ_PROFILE -mrelaxed-simd,,$(PROFILE)))
PROFILE_MODULES := $(PROFILE)/libruvq.so $(PROFILE)/ruvq.wasm $(PROFILE)/ruvq-relaxed.wasm
