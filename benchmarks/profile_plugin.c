// SPDX-License-Identifier: MIT
//
// A plugin of QEMU's emulation: counts how often each block of the guest's code is executed between
// the two marks that `load --profile` executes, and writes "ADDRESS INSTRUCTIONS" of each block to a
// file at the second mark. profile.sh builds it, with UBLK_QEMU_API as its QEMU wants it:
//
//   1   before QEMU 9.0
//   3   from 9.1 on: the bytes of an instruction are copied to the caller
//
// Distributions ship no header for plugins, so what is used of it is declared here.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct translation_block;
struct instruction;
typedef void (*block_translated)(uint64_t plugin, struct translation_block*);
typedef void (*executed)(unsigned cpu, void* of);

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, block_translated);
void qemu_plugin_register_vcpu_tb_exec_cb(struct translation_block*, executed, int flags, void* of);
void qemu_plugin_register_vcpu_insn_exec_cb(struct instruction*, executed, int flags, void* of);
size_t qemu_plugin_tb_n_insns(const struct translation_block*);
uint64_t qemu_plugin_tb_vaddr(const struct translation_block*);
struct instruction* qemu_plugin_tb_get_insn(const struct translation_block*, size_t index);
size_t qemu_plugin_insn_size(const struct instruction*);
#if UBLK_QEMU_API >= 3
size_t qemu_plugin_insn_data(const struct instruction*, void* to, size_t bytes);
#else
const void* qemu_plugin_insn_data(const struct instruction*);
#endif

__attribute__((visibility("default"))) int qemu_plugin_version = UBLK_QEMU_API;

// A block is translated more than once, also to another length: each length is counted by itself.
struct block {
    uint64_t address, instructions, executions;
    struct block* next;
};

enum { buckets = 1 << 18 };
static struct block* table[buckets];
static FILE* output;
static int counting;

static struct block* block_at(uint64_t address, uint64_t instructions) {
    struct block** place = &table[(address * 0x9e3779b97f4a7c15u) >> 46];
    for (; *place != NULL; place = &(*place)->next) {
        if ((*place)->address == address && (*place)->instructions == instructions) {
            return *place;
        }
    }
    *place = calloc(1, sizeof **place);
    if (*place == NULL) {
        abort();
    }
    (*place)->address = address;
    (*place)->instructions = instructions;
    return *place;
}

static void block_executed(unsigned cpu, void* of) {
    (void)cpu;
    ((struct block*)of)->executions += (uint64_t)counting;
}

static void begin(unsigned cpu, void* of) {
    (void)cpu, (void)of;
    for (size_t i = 0; i < buckets; ++i) {
        for (struct block* each = table[i]; each != NULL; each = each->next) {
            each->executions = 0;
        }
    }
    counting = 1;
}

static void end(unsigned cpu, void* of) {
    (void)cpu, (void)of;
    counting = 0;
    fputs("profile\n", output);
    for (size_t i = 0; i < buckets; ++i) {
        for (const struct block* each = table[i]; each != NULL; each = each->next) {
            if (each->executions != 0) {
                fprintf(output, "%" PRIx64 " %" PRIu64 "\n", each->address,
                        each->executions * each->instructions);
            }
        }
    }
    fflush(output);
}

// As load.cpp has them: a long nop with "ubl" and one more letter for its displacement.
static int mark_of(const struct instruction* each) {
    unsigned char bytes[7] = {0};
    if (qemu_plugin_insn_size(each) != sizeof bytes) {
        return 0;
    }
#if UBLK_QEMU_API >= 3
    (void)qemu_plugin_insn_data(each, bytes, sizeof bytes);
#else
    memcpy(bytes, qemu_plugin_insn_data(each), sizeof bytes);
#endif
    return memcmp(bytes, "\x0f\x1f\x80ubl", 6) == 0 ? bytes[6] : 0;
}

static void translated(uint64_t plugin, struct translation_block* block) {
    (void)plugin;
    const size_t count = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, block_executed, 0,
                                         block_at(qemu_plugin_tb_vaddr(block), count));
    for (size_t i = 0; i < count; ++i) {
        struct instruction* const each = qemu_plugin_tb_get_insn(block, i);
        const int mark = mark_of(each);
        if (mark == 'b' || mark == 'e') {
            qemu_plugin_register_vcpu_insn_exec_cb(each, mark == 'b' ? begin : end, 0, NULL);
        }
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t plugin, const void* about,
                                                               int count, char** arguments) {
    (void)about;
    if (count == 1 && strncmp(arguments[0], "out=", 4) == 0) {
        output = fopen(arguments[0] + 4, "w");
    }
    if (output == NULL) {
        fputs("profile_plugin: out=FILE, a file that can be written\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    return 0;
}
