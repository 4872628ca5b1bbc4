# tonne: make | make demo | make check | make check-parity | make check-long | make install PREFIX= | make fmt
# Options: SAN=address|thread, CUDA=0|1, CC=gcc|clang, BUILD=folder, V=1

SAN   ?=
CC    := $(if $(filter default,$(origin CC)),gcc,$(CC))
BUILD ?= build$(if $(SAN),-$(SAN))
PREFIX ?= /usr/local
V     ?= 0
Q     := $(if $(filter 1,$(V)),,@)
ARCH  := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null || uname -m)))
CUDA  ?= $(if $(shell command -v nvcc 2>/dev/null),1,0)

WARN   := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef
# No contraction: a*b+c rounds twice unless a kernel asks for fma, so every compiler gives the same bits.
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -Isrc $(WARN) $(CFLAGS) -ffp-contract=off -fno-math-errno -pthread -MMD -MP $(SAN_FLAGS)
LIBS   := -ljansson -lutf8proc -lhwloc -ledit -lxxhash -luring -lm
comma  := ,
SAN_FLAGS := $(if $(filter address,$(SAN)),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
SAN_FLAGS += $(if $(filter thread,$(SAN)),-fsanitize=thread)
SAN_FLAGS += $(if $(filter fuzzer,$(SAN)),-fsanitize=fuzzer-no-link$(comma)address$(comma)undefined -fno-sanitize-recover=all)

# Kernels: one folder of files per instruction set, named *_avx2.c and *_avx512.c; chosen at run time.
AVX2_FLAGS   := -mavx2 -mfma -mf16c -mbmi2
AVX512_FLAGS := -mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mavx512vbmi
KERNEL_FLAGS := -O3 $(if $(findstring clang,$(CC)),,-fno-tree-pre)

SRC := $(filter-out src/device/cuda/% src/device/cpu/x86/% src/quant/x86/%,$(shell find src -name '*.c' | sort))
ifeq ($(ARCH),x86_64)
SRC += $(sort $(wildcard src/device/cpu/x86/*.c src/quant/x86/*.c))
endif
OBJ     := $(SRC:%.c=$(BUILD)/%.o)
LIB_OBJ := $(filter-out $(BUILD)/src/cmd/%,$(OBJ))
CMD_OBJ := $(filter $(BUILD)/src/cmd/%,$(OBJ))
PROGRAM := $(if $(filter build,$(BUILD)),tonne,$(BUILD)/tonne)

TESTS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/*.c tests/device/*.c tests/parity/*.c tests/fault/*.c)))
CORPUS := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ  := $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

.PHONY: all demo check check-parity check-long fuzz fuzz-programs tests install uninstall fmt clean deps
.SECONDARY: # objects of the tests stay
all: $(PROGRAM)

$(PROGRAM): $(CMD_OBJ) $(BUILD)/libtonne.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/libtonne.a: $(LIB_OBJ)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/src/device/cpu/x86/%_avx2.o: ALL_CFLAGS += $(AVX2_FLAGS) $(KERNEL_FLAGS)
$(BUILD)/src/device/cpu/x86/%_avx512.o: ALL_CFLAGS += $(AVX512_FLAGS) $(KERNEL_FLAGS)
$(BUILD)/src/device/cpu/%_plain.o: ALL_CFLAGS += $(KERNEL_FLAGS)
$(BUILD)/src/quant/x86/%_avx512.o: ALL_CFLAGS += $(AVX512_FLAGS)
$(BUILD)/src/quant/%.o $(BUILD)/src/load/finite.o: ALL_CFLAGS += -O3

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Every tests/*/NAME.c with a main is a program of its own, linked with cmocka and what it uses of the library and of
# tests/support.
SUPPORT := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tests/support/*.c)))
$(BUILD)/libsupport.a: $(SUPPORT)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(TESTS): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libsupport.a $(BUILD)/libtonne.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ -lcmocka $(LIBS)
$(BUILD)/tests/%.o: ALL_CFLAGS += -Itests

tests: $(TESTS) $(CORPUS) $(PROGRAM)

# A fuzz target is built twice: here as a plain program that runs its corpus, and by `make fuzz` with libFuzzer.
$(CORPUS): $(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/corpus_main.o $(BUILD)/libtonne.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(LIBS)

# Everything once more, into build-fuzz, with clang's coverage and sanitizers: build-fuzz/fuzz_NAME.
fuzz:
	$(Q)$(MAKE) --no-print-directory CC=clang SAN=fuzzer BUILD=build-fuzz fuzz-programs
fuzz-programs: $(FUZZ)
$(FUZZ): $(BUILD)/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/libtonne.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

deps:
	$(Q)tools/deps.sh build test

# The steps that may install packages run make again, so that a bare machine needs nothing before.
demo:
	$(Q)tools/deps.sh build
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tools/demo.sh

check:
	$(Q)tools/deps.sh build test
	$(Q)$(MAKE) --no-print-directory all tests
	$(Q)tools/check.sh $(BUILD)

check-parity:
	$(Q)tools/deps.sh build test python
	$(Q)$(MAKE) --no-print-directory all tests
	$(Q)tools/check_parity.sh $(BUILD)

check-long:
	$(Q)tools/deps.sh build test python
	$(Q)$(MAKE) --no-print-directory all tests fuzz
	$(Q)tools/check_long.sh $(BUILD)

install: all
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/tonne

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/tonne

fmt:
	clang-format -i $$(find src tests -name '*.[ch]')

clean:
	rm -rf build build-address build-thread build-clang build-fuzz tonne

-include $(OBJ:.o=.d) $(SUPPORT:.o=.d) $(TESTS:=.d) $(CORPUS:=.d)
