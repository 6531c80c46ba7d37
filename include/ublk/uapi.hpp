// SPDX-License-Identifier: MIT
#pragma once

// The words the kernel's ublk driver speaks, as of Linux 7.3, in our own names.
//
// <linux/ublk_cmd.h> is not used, because distributions lag behind it by years: Debian 12 ships one
// that stops at bit 4 of 21 features. tests/unit/uapi_header_test.cpp compares every name below
// with the newest copy at hand, so this table cannot drift. "Since" names the first kernel release.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__alpha__) || defined(__hppa__) || defined(__mips__) || defined(__powerpc__) ||        \
    defined(__sparc__)
#error "ublk: uapi.hpp: ioctl numbers are encoded differently on this architecture; add it here"
#endif

namespace ublk::inline v0::uapi {

// ---------------------------------------------------------------- structures: control plane

// Argument of every control command; sits at byte 48 of a 128-byte SQE on /dev/ublk-control.
struct ctrl_cmd {
    std::uint32_t dev_id = 0;    // target; add_dev: wanted id, or any_dev_id
    std::uint16_t queue_id = 0;  // must be no_queue_id for add_dev; ignored elsewhere
    std::uint16_t len = 0;       // bytes at addr, device path included
    std::uint64_t addr = 0;      // buffer of ours: [device path][payload], both may be absent
    std::uint64_t data = 0;      // inline argument: pid, sectors, milliseconds, buffer index ...
    std::uint16_t dev_path_len = 0;  // since 6.3: bytes of path, NUL included; unprivileged devices
    std::uint16_t pad = 0;
    std::uint32_t reserved = 0;
};

enum class dev_state : std::uint16_t {
    dead = 0,      // added, stopped, or its server crashed without recovery
    live = 1,      // serving
    quiesced = 2,  // since 6.1: no server, requests wait for one
    fail_io = 3,   // since 6.13: no server, requests fail
};

// Asked with add_dev and granted in the same buffer: the driver clamps, masks and adds, in silence.
// Re-read every field after add_dev.
struct dev_info {
    std::uint16_t nr_hw_queues = 0;  // 1..max_nr_queues; granted at most the number of CPUs
    std::uint16_t queue_depth = 0;   // 1..max_queue_depth
    dev_state state = dev_state::dead;
    std::uint16_t io_desc_size = 0;      // since 7.3: bytes per descriptor; zero before
    std::uint32_t max_io_buf_bytes = 0;  // largest request; granted rounded down to pages
    std::uint32_t dev_id = 0;  // must equal ctrl_cmd::dev_id; any_dev_id: the driver picks
    std::int32_t pid = 0;      // out: the server, in our pid namespace; -1 when dead
    std::uint32_t pad1 = 0;
    std::uint64_t flags = 0;         // feature bits, asked and granted; unknown ones vanish
    std::uint64_t server_flags = 0;  // ours to use: kept and returned by the driver
    std::uint32_t owner_uid = 0;     // out, since 6.3
    std::uint32_t owner_gid = 0;     // out, since 6.3
    std::uint64_t reserved1 = 0;
    std::uint64_t reserved2 = 0;
};

// Argument of ctrl::reg_buf. Since 7.1.
struct shmem_buf_reg {
    std::uint64_t addr = 0;   // page aligned
    std::uint64_t len = 0;    // bytes, page aligned, at most 4 GiB
    std::uint32_t flags = 0;  // shmem_buf_read_only
    std::uint32_t reserved = 0;
};

// Pins the pages without write access, as a write-sealed memfd needs; matches WRITE requests only.
inline constexpr std::uint32_t shmem_buf_read_only = 1u << 0;

// ---------------------------------------------------------------- structures: data plane

// One request, written by the driver into memory that we map read-only, indexed by tag.
struct io_desc {
    std::uint32_t op_flags = 0;      // bits 0..7 an op, above it io_flag bits
    std::uint32_t nr_sectors = 0;    // length; op::report_zones: the number of zones wanted
    std::uint64_t start_sector = 0;  // first sector
    std::uint64_t addr = 0;          // copy mode: our buffer; shmem_zc: shmem_zc_index(addr) ...
};

// Argument of the per-request commands; at byte 48 of an SQE on /dev/ublkcN.
struct io_cmd {
    std::uint16_t q_id = 0;
    std::uint16_t tag = 0;
    std::int32_t result = 0;  // commit: bytes done, always the full length, or a negative errno
    // Copy mode: buffer for the tag's next request. (un)register_io_buf: slot of the ring's buffer
    // table. Commit of op::zone_append: the sector that was written.
    std::uint64_t addr = 0;
};

// Argument of the batch commands; at byte 48 of an SQE on /dev/ublkcN. Since 7.0.
struct batch_io {
    std::uint16_t q_id = 0;
    std::uint16_t flags = 0;      // batch_flag bits
    std::uint16_t nr_elem = 0;    // at most the queue depth
    std::uint8_t elem_bytes = 0;  // exactly batch_elem_bytes(flags); fetch_io_cmds: 2
    std::uint8_t reserved = 0;
    std::uint64_t reserved2 = 0;
};

// Starts every element of a batch; a u64 buffer address and then a u64 zone LBA follow it when
// batch_flag says so. Since 7.0.
struct elem_header {
    std::uint16_t tag = 0;
    std::uint16_t buf_index = 0;  // auto_buf_reg: slot for the tag's next request
    std::int32_t result = 0;      // commit only; as io_cmd::result
};

namespace batch_flag {
inline constexpr std::uint16_t has_zone_lba = 1u << 0;           // needs feature::zoned
inline constexpr std::uint16_t has_buf_addr = 1u << 1;           // copy mode only; required there
inline constexpr std::uint16_t auto_buf_reg_fallback = 1u << 2;  // as for auto_buf_reg
}  // namespace batch_flag

constexpr std::uint8_t batch_elem_bytes(std::uint16_t flags) noexcept {
    return static_cast<std::uint8_t>(sizeof(elem_header) +
                                     ((flags & batch_flag::has_buf_addr) != 0 ? 8 : 0) +
                                     ((flags & batch_flag::has_zone_lba) != 0 ? 8 : 0));
}

// A slot that cannot be used then comes back as io_flag::need_reg_buf. Without this flag the driver
// fails the request and tells us nothing.
inline constexpr std::uint8_t auto_buf_reg_fallback = 1u << 0;

// Where the driver registers a request's pages; travels in sqe->addr of fetch and commit, while
// io_cmd::addr is zero. Since 6.16.
struct auto_buf_reg {
    std::uint16_t index = 0;  // slot of the ring's buffer table
    std::uint8_t flags = 0;   // auto_buf_reg_fallback
    std::uint8_t reserved0 = 0;
    std::uint32_t reserved1 = 0;

    // Bits 0..15 the index, 16..23 the flags, the rest reserved: the driver refuses non-zero there.
    [[nodiscard]] constexpr std::uint64_t sqe_addr() const noexcept {
        return std::uint64_t{index} | std::uint64_t{flags} << 16 | std::uint64_t{reserved0} << 24 |
               std::uint64_t{reserved1} << 32;
    }
};

// ---------------------------------------------------------------- structures: parameters

// param_basic::attrs
namespace attr {
inline constexpr std::uint32_t read_only = 1u << 0;
inline constexpr std::uint32_t rotational = 1u << 1;
inline constexpr std::uint32_t volatile_cache = 1u << 2;  // without it, op::flush is never sent
inline constexpr std::uint32_t fua = 1u << 3;             // honoured only with volatile_cache
}  // namespace attr

struct param_basic {
    std::uint32_t attrs = 0;
    std::uint8_t logical_bs_shift = 0;   // 9..page shift
    std::uint8_t physical_bs_shift = 0;  // logical_bs_shift..28, and so the next two at most 28
    std::uint8_t io_opt_shift = 0;
    std::uint8_t io_min_shift = 0;
    std::uint32_t max_sectors = 0;    // one page .. dev_info::max_io_buf_bytes, in sectors
    std::uint32_t chunk_sectors = 0;  // requests never cross it; zoned: zone size, a power of two
    std::uint64_t dev_sectors = 0;    // size of the disk
    std::uint64_t virt_boundary_mask = 0;
};

struct param_discard {
    std::uint32_t discard_alignment = 0;    // bytes
    std::uint32_t discard_granularity = 0;  // bytes, not zero
    std::uint32_t max_discard_sectors = 0;
    std::uint32_t max_write_zeroes_sectors = 0;  // write zeroes is offered here too
    std::uint16_t max_discard_segments = 0;      // must be 1 when discard is offered
    std::uint16_t reserved0 = 0;
};

// Out only: set_params refuses it, so clear its type bit before handing get_params' answer back.
// Since 6.3.
struct param_devt {
    std::uint32_t char_major = 0;
    std::uint32_t char_minor = 0;
    std::uint32_t disk_major = 0;  // zero until started
    std::uint32_t disk_minor = 0;
};

// Required with feature::zoned, refused without. Since 6.6.
struct param_zoned {
    std::uint32_t max_open_zones = 0;           // zero: no limit
    std::uint32_t max_active_zones = 0;         // zero: no limit
    std::uint32_t max_zone_append_sectors = 0;  // not zero
    std::uint8_t reserved[20] = {};
};

// Since 6.15.
struct param_dma_align {
    std::uint32_t alignment = 0;  // a mask: 511 asks for 512 bytes; below the page size
    std::uint8_t pad[4] = {};
};

// All three must be set. Since 6.15.
struct param_segment {
    std::uint64_t seg_boundary_mask = 0;  // mask + 1 is a power of two, at least min_segment_size
    std::uint32_t max_segment_size = 0;   // bytes, at least min_segment_size
    std::uint16_t max_segments = 0;
    std::uint8_t pad[2] = {};
};

// param_integrity::flags
namespace integrity_flag {
inline constexpr std::uint32_t capable = 1u << 0;
inline constexpr std::uint32_t reftag = 1u << 1;  // needs a checksum
}  // namespace integrity_flag

enum class csum_type : std::uint8_t {
    none = 0,
    ip = 1,             // 8-byte tuple
    crc16_t10_dif = 2,  // 8-byte tuple
    crc64_nvme = 4,     // 16-byte tuple
};

// Needs feature::integrity. Since 7.0.
struct param_integrity {
    std::uint32_t flags = 0;
    std::uint16_t max_integrity_segments = 0;  // zero: no limit
    std::uint8_t interval_exp = 0;             // 9..logical_bs_shift
    std::uint8_t metadata_size = 0;            // bytes an interval, not zero
    std::uint8_t pi_offset = 0;                // pi_offset + tuple fit into metadata_size
    csum_type csum = csum_type::none;
    std::uint8_t tag_size = 0;
    std::uint8_t pad[5] = {};
};

// params::types
namespace param_type {
inline constexpr std::uint32_t basic = 1u << 0;  // mandatory
inline constexpr std::uint32_t discard = 1u << 1;
inline constexpr std::uint32_t devt = 1u << 2;
inline constexpr std::uint32_t zoned = 1u << 3;
inline constexpr std::uint32_t dma_align = 1u << 4;
inline constexpr std::uint32_t segment = 1u << 5;
inline constexpr std::uint32_t integrity = 1u << 6;
}  // namespace param_type

// Grows at its end: the driver copies only len bytes, so an older one takes a shorter prefix. A
// refused set_params wipes what was stored before.
struct params {
    std::uint32_t len = 0;    // bytes of this struct in use
    std::uint32_t types = 0;  // param_type bits: which sections count
    param_basic basic;
    param_discard discard;
    param_devt devt;
    param_zoned zoned;
    param_dma_align dma;
    std::uint32_t hole = 0;  // alignment of seg, named so that no byte is left undefined
    param_segment seg;
    param_integrity integrity;
};

// ---------------------------------------------------------------- commands

enum class direction : std::uint32_t { out = 2, in_out = 3 };  // out: the kernel only answers

constexpr std::uint32_t encode(direction way, std::uint32_t nr, std::size_t argument) noexcept {
    return static_cast<std::uint32_t>(way) << 30 | static_cast<std::uint32_t>(argument) << 16 |
           std::uint32_t{'u'} << 8 | nr;
}

// Kernels 6.0..6.3 know a command by its bare number only.
constexpr std::uint32_t legacy(std::uint32_t command) noexcept {
    return command & 0xff;
}

// On /dev/ublk-control. All but queue affinity, device info (both) and features may sleep, and then
// finish on an io-wq worker, several at a time.
namespace ctrl {
constexpr std::uint32_t ask(std::uint32_t nr) noexcept {
    return encode(direction::out, nr, sizeof(ctrl_cmd));
}
constexpr std::uint32_t act(std::uint32_t nr) noexcept {
    return encode(direction::in_out, nr, sizeof(ctrl_cmd));
}

inline constexpr std::uint32_t get_queue_affinity = ask(0x01);   // data: queue; out: cpumask
inline constexpr std::uint32_t get_dev_info = ask(0x02);         // out: dev_info
inline constexpr std::uint32_t add_dev = act(0x04);              // in, out: dev_info
inline constexpr std::uint32_t del_dev = act(0x05);              // waits for the last reference
inline constexpr std::uint32_t start_dev = act(0x06);            // data: pid; waits for all fetches
inline constexpr std::uint32_t stop_dev = act(0x07);             // waits for requests in flight
inline constexpr std::uint32_t set_params = act(0x08);           // in: params; refused once started
inline constexpr std::uint32_t get_params = ask(0x09);           // in: params::len; out: params
inline constexpr std::uint32_t start_user_recovery = act(0x10);  // since 6.1
inline constexpr std::uint32_t end_user_recovery = act(0x11);    // since 6.1; data: new pid
inline constexpr std::uint32_t get_dev_info2 = ask(0x12);  // since 6.3; path required, of root too
inline constexpr std::uint32_t get_features = ask(0x13);   // since 6.5; out: u64, len exactly 8
inline constexpr std::uint32_t del_dev_async = ask(0x14);  // since 6.9; del_dev without waiting
inline constexpr std::uint32_t update_size = act(0x15);    // since 6.16; data: sectors, unchecked
inline constexpr std::uint32_t quiesce_dev = act(0x16);    // since 6.16; data: ms, 0 waits for ever
inline constexpr std::uint32_t try_stop_dev = act(0x17);   // since 7.0; EBUSY while it is open
inline constexpr std::uint32_t reg_buf = act(0x18);    // since 7.1; in: shmem_buf_reg; res: index
inline constexpr std::uint32_t unreg_buf = act(0x19);  // since 7.1; data: index
}  // namespace ctrl

// On /dev/ublkcN.
namespace io {
constexpr std::uint32_t single(std::uint32_t nr) noexcept {
    return encode(direction::in_out, nr, sizeof(io_cmd));
}
constexpr std::uint32_t batch(std::uint32_t nr) noexcept {
    return encode(direction::in_out, nr, sizeof(batch_io));
}

inline constexpr std::uint32_t fetch_req = single(0x20);             // once per tag, before start
inline constexpr std::uint32_t commit_and_fetch_req = single(0x21);  // hand back, wait for the next
inline constexpr std::uint32_t need_get_data = single(0x22);         // name the buffer of a write
inline constexpr std::uint32_t register_io_buf = single(0x23);       // since 6.15
inline constexpr std::uint32_t unregister_io_buf = single(0x24);     // since 6.15
inline constexpr std::uint32_t prep_io_cmds = batch(0x25);    // since 7.0; all tags of a queue
inline constexpr std::uint32_t commit_io_cmds = batch(0x26);  // since 7.0; res: bytes consumed
inline constexpr std::uint32_t fetch_io_cmds = batch(0x27);   // since 7.0; multishot, u16 tags
}  // namespace io

// cqe->res of fetches and commits; every other negative value means the command was refused.
inline constexpr std::int32_t io_res_ok = 0;             // the tag's descriptor holds a request
inline constexpr std::int32_t io_res_need_get_data = 1;  // a write waits for io::need_get_data
inline constexpr std::int32_t io_res_abort = -19;        // -ENODEV: never fetch this tag again

// ---------------------------------------------------------------- features, ops, flags

// dev_info::flags, and the answer of get_features. Rules between them: features.hpp.
namespace feature {
inline constexpr std::uint64_t support_zero_copy = 1ull << 0;       // since 6.15; 6.0 reserved it
inline constexpr std::uint64_t uring_cmd_comp_in_task = 1ull << 1;  // since 6.0; no meaning left
inline constexpr std::uint64_t need_get_data = 1ull << 2;           // since 6.0
inline constexpr std::uint64_t user_recovery = 1ull << 3;           // since 6.1
inline constexpr std::uint64_t user_recovery_reissue = 1ull << 4;   // since 6.1
inline constexpr std::uint64_t unprivileged_dev = 1ull << 5;        // since 6.3; not for root
inline constexpr std::uint64_t cmd_ioctl_encode = 1ull << 6;        // since 6.4
inline constexpr std::uint64_t user_copy = 1ull << 7;               // since 6.5
inline constexpr std::uint64_t zoned = 1ull << 8;                   // since 6.6
inline constexpr std::uint64_t user_recovery_fail_io = 1ull << 9;   // since 6.13
inline constexpr std::uint64_t update_size = 1ull << 10;            // since 6.16
inline constexpr std::uint64_t auto_buf_reg = 1ull << 11;           // since 6.16
inline constexpr std::uint64_t quiesce = 1ull << 12;                // since 6.16
inline constexpr std::uint64_t per_io_daemon = 1ull << 13;          // since 6.16
inline constexpr std::uint64_t buf_reg_off_daemon = 1ull << 14;     // since 6.17
inline constexpr std::uint64_t batch_io = 1ull << 15;               // since 7.0
inline constexpr std::uint64_t integrity = 1ull << 16;              // since 7.0
inline constexpr std::uint64_t safe_stop_dev = 1ull << 17;          // since 7.0: ctrl::try_stop_dev
inline constexpr std::uint64_t no_auto_part_scan = 1ull << 18;      // since 7.0
inline constexpr std::uint64_t shmem_zc = 1ull << 19;               // since 7.1
inline constexpr std::uint64_t io_desc_size = 1ull << 20;           // since 7.3
}  // namespace feature

enum class op : std::uint8_t {
    read = 0,
    write = 1,
    flush = 2,
    discard = 3,
    write_same = 4,  // never sent
    write_zeroes = 5,
    zone_open = 10,  // zoned ops since 6.6
    zone_close = 11,
    zone_finish = 12,
    zone_append = 13,  // answers with the sector in io_cmd::addr
    zone_reset_all = 14,
    zone_reset = 15,
    report_zones = 18,  // answers with an array of struct blk_zone
};

inline constexpr std::uint32_t op_mask = 0xff;

constexpr op op_of(std::uint32_t op_flags) noexcept {
    return static_cast<op>(op_flags & op_mask);
}

// Bits of io_desc::op_flags as they lie there: test op_flags & io_flag::x. The kernel's own helper
// for reading flags shifts them down by 8 while its constants are not shifted, so code that
// combines the two never matches anything; hence no such helper here.
namespace io_flag {
inline constexpr std::uint32_t failfast_dev = 1u << 8;
inline constexpr std::uint32_t failfast_transport = 1u << 9;
inline constexpr std::uint32_t failfast_driver = 1u << 10;
inline constexpr std::uint32_t meta = 1u << 11;
inline constexpr std::uint32_t fua = 1u << 13;
inline constexpr std::uint32_t nounmap = 1u << 15;  // write_zeroes must keep the space allocated
inline constexpr std::uint32_t swap = 1u << 16;
inline constexpr std::uint32_t need_reg_buf = 1u << 17;  // since 6.16: register it ourselves
inline constexpr std::uint32_t integrity = 1u << 18;     // since 7.0: there is metadata to move
inline constexpr std::uint32_t shmem_zc = 1u << 19;      // since 7.1: addr is a shared buffer's
}  // namespace io_flag

// ---------------------------------------------------------------- limits, offsets, positions

inline constexpr std::uint32_t any_dev_id = 0xffffffff;
inline constexpr std::uint16_t no_queue_id = 0xffff;
inline constexpr std::size_t features_len = 8;
inline constexpr std::uint32_t max_devices = 1u << 20;
inline constexpr std::uint32_t max_queue_depth = 4096;
inline constexpr std::uint16_t max_io_desc_size = 256;  // io_desc_size: 24..256, multiple of 8
inline constexpr std::uint32_t min_segment_size = 4096;
inline constexpr std::uint32_t max_batch_tags = 128;  // tags one CQE of fetch_io_cmds delivers

// File position of a request's bytes on /dev/ublkcN, for pread (WRITE) and pwrite (READ).
inline constexpr std::uint32_t io_buf_bits = 25;
inline constexpr std::uint32_t tag_bits = 16;
inline constexpr std::uint32_t qid_bits = 12;
inline constexpr std::uint32_t tag_shift = io_buf_bits;
inline constexpr std::uint32_t qid_shift = tag_shift + tag_bits;
inline constexpr std::uint32_t max_nr_queues = 1u << qid_bits;
inline constexpr std::uint64_t max_io_buf_bytes = 1ull << io_buf_bits;
inline constexpr std::uint64_t io_buf_offset = 0x80000000;
inline constexpr std::uint64_t io_buf_end = 1ull << (qid_shift + qid_bits);  // size of that area
inline constexpr std::uint64_t integrity_position_bit = 1ull << 62;  // or it in: metadata instead

// Requires: offset < max_io_buf_bytes, else it spills into the tag. The base is added, since its
// bit 31 lies inside the tag's field: or-ing it would send tags from 64 on to others' data.
constexpr std::uint64_t user_copy_position(std::uint16_t queue, std::uint16_t tag,
                                           std::uint64_t offset) noexcept {
    return io_buf_offset +
           (std::uint64_t{queue} << qid_shift | std::uint64_t{tag} << tag_shift | offset);
}

// Bytes to map for one queue's descriptors; mmap refuses any other length. Takes pages as the
// kernel has them (sysconf), since 64 KiB pages exist.
constexpr std::size_t cmd_buf_size(std::size_t depth, std::size_t desc_size,
                                   std::size_t page_size) noexcept {
    return (depth * desc_size + page_size - 1) / page_size * page_size;
}

// Distance between two queues' descriptors in the file: always as for the largest depth, whatever
// the depth of the device. Queue q is at cmd_buf_offset + q * stride.
constexpr std::size_t cmd_buf_stride(std::size_t desc_size, std::size_t page_size) noexcept {
    return cmd_buf_size(max_queue_depth, desc_size, page_size);
}
inline constexpr std::uint64_t cmd_buf_offset = 0;

// io_desc::addr when io_flag::shmem_zc is set: bits 0..31 the byte offset, 32..47 the buffer index.
constexpr std::uint16_t shmem_zc_index(std::uint64_t addr) noexcept {
    return static_cast<std::uint16_t>(addr >> 32);
}
constexpr std::uint32_t shmem_zc_offset(std::uint64_t addr) noexcept {
    return static_cast<std::uint32_t>(addr);
}
constexpr std::uint64_t shmem_zc_addr(std::uint16_t index, std::uint32_t offset) noexcept {
    return std::uint64_t{index} << 32 | offset;
}

// ---------------------------------------------------------------- golden numbers

template <class T, std::size_t Size>
inline constexpr bool is_wire = std::is_standard_layout_v<T>&& std::is_trivially_copyable_v<T>&&
                                    std::has_unique_object_representations_v<T> &&
                                sizeof(T) == Size;

static_assert(is_wire<ctrl_cmd, 32> && is_wire<dev_info, 64> && is_wire<shmem_buf_reg, 24>);
static_assert(is_wire<io_desc, 24> && is_wire<io_cmd, 16>);
static_assert(is_wire<batch_io, 16> && is_wire<elem_header, 8> && is_wire<auto_buf_reg, 8>);
static_assert(is_wire<param_basic, 32> && is_wire<param_discard, 20> && is_wire<param_devt, 16>);
static_assert(is_wire<param_zoned, 32> && is_wire<param_dma_align, 8>);
static_assert(is_wire<param_segment, 16> && is_wire<param_integrity, 16> && is_wire<params, 152>);

static_assert(offsetof(ctrl_cmd, addr) == 8 && offsetof(ctrl_cmd, dev_path_len) == 24);
static_assert(offsetof(dev_info, max_io_buf_bytes) == 8 && offsetof(dev_info, flags) == 24);
static_assert(offsetof(dev_info, owner_uid) == 40 && offsetof(shmem_buf_reg, flags) == 16);
static_assert(offsetof(io_desc, start_sector) == 8 && offsetof(io_desc, addr) == 16);
static_assert(offsetof(io_cmd, result) == 4 && offsetof(io_cmd, addr) == 8);
static_assert(offsetof(batch_io, elem_bytes) == 6 && offsetof(elem_header, result) == 4);
static_assert(offsetof(params, basic) == 8 && offsetof(params, discard) == 40);
static_assert(offsetof(params, devt) == 60 && offsetof(params, zoned) == 76);
static_assert(offsetof(params, dma) == 108 && offsetof(params, seg) == 120);
static_assert(offsetof(params, integrity) == 136);

static_assert(ctrl::get_dev_info == 0x80207502 && ctrl::add_dev == 0xc0207504);
static_assert(ctrl::get_features == 0x80207513 && ctrl::unreg_buf == 0xc0207519);
static_assert(io::fetch_req == 0xc0107520 && io::fetch_io_cmds == 0xc0107527);
static_assert(qid_shift == 41 && io_buf_end == 0x20000000000000);

}  // namespace ublk::inline v0::uapi
