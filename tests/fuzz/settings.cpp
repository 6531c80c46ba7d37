// SPDX-License-Identifier: MIT
// What a user can ask for: options, a backend's attributes, features. What the library accepts the
// simulated driver must accept, what it refuses must be refused in words, and its table of features
// must say what the driver of every version does. Then the arithmetic of units and positions.
#include "bytes.hpp"

#include <ublk/control/control_commands.hpp>
#include <ublk/control/diagnosis.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/error.hpp>
#include <ublk/features.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/options.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/sim/world.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>
#include <string>

namespace {

namespace sim = ublk::sim;
namespace uapi = ublk::uapi;
namespace feature = ublk::uapi::feature;
using namespace std::chrono_literals;
using ublk_fuzz::bytes;
using ublk_fuzz::expect;
using ublk_fuzz::wrong;

constexpr ublk::kernel_version versions[] = {{6, 8},  {6, 9},  {6, 10}, {6, 11}, {6, 12}, {6, 13},
                                             {6, 14}, {6, 15}, {6, 16}, {6, 17}, {6, 18}, {6, 19},
                                             {7, 0},  {7, 1},  {7, 2},  {7, 3}};

std::uint32_t page_size() {
    return static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
}

/// A number near a power of two, at which limits lie, or any.
std::uint64_t some_size(bytes& in) {
    const auto bits = in.number();
    if (bits >= 0xc0) {
        return in.number<std::uint64_t>();
    }
    const std::uint64_t power = std::uint64_t{1} << (bits & 63);
    return bits < 0x40 ? power : bits < 0x80 ? power - 1 : power + in.number();
}
std::uint32_t some_small_size(bytes& in) {
    return static_cast<std::uint32_t>(some_size(in));
}

/// Runs `check`; whether it was content. A refusal must be told in full.
template <class Check>
bool accepted(Check check) {
    try {
        check();
        return true;
    } catch (const ublk::error& why) {
        expect(why.errno_value() == EINVAL, "a setting is refused with another errno");
        expect(!why.cause().empty() && !why.remedy().empty() && !why.command().empty(),
               "a setting is refused without a cause or a remedy");
        const std::string text = why.what();
        expect(text.find(why.cause()) != text.npos && text.find(why.remedy()) != text.npos,
               "the words of a refusal lack its cause or remedy");
        return false;
    }
}

// ---------------------------------------------------------------- options and attributes

ublk::options options_from(bytes& in) {
    ublk::options requested;
    const auto bits = in.number();
    if ((bits & 1) != 0) {
        requested.id = (bits & 2) != 0 ? some_small_size(in) : in.number();
    }
    requested.queues = (bits & 4) != 0 ? some_small_size(in) : in.number();
    requested.depth = (bits & 8) != 0 ? some_small_size(in) : 1u + in.number();
    requested.max_io_bytes = (bits & 16) != 0 ? some_small_size(in) : page_size();
    if ((bits & 32) != 0) {
        requested.command_deadline = std::chrono::milliseconds{in.number<std::int64_t>()};
    }
    if ((bits & 64) != 0) {
        requested.stop_deadline = std::chrono::milliseconds{in.number<std::int8_t>()};
    }
    requested.partition_scan = (bits & 128) == 0;
    return requested;
}

/// Good ones, of which some are replaced.
ublk::disk_attributes attributes_from(bytes& in) {
    const auto bits = in.number();
    const auto changes = in.number<std::uint16_t>();
    ublk::disk_attributes disk;
    disk.size = std::uint64_t{1} << 20;
    disk.read_only = (bits & 1) != 0;
    disk.rotational = (bits & 2) != 0;
    disk.volatile_cache = (bits & 4) != 0;
    disk.fua = (bits & 8) != 0;
    disk.discards = (bits & 16) != 0;
    disk.max_discard_size = 1u << 20;
    disk.max_write_zeroes_size = (bits & 32) != 0 ? 1u << 20 : 0;
    const auto change = [&](unsigned which, auto& what) {
        if ((changes >> which & 1) != 0) {
            what = static_cast<std::remove_reference_t<decltype(what)>>(some_size(in));
        }
    };
    change(0, disk.size);
    change(1, disk.logical_block_size);
    change(2, disk.physical_block_size);
    change(3, disk.minimum_io_size);
    change(4, disk.optimal_io_size);
    change(5, disk.discard_granularity);
    change(6, disk.discard_alignment);
    change(7, disk.max_discard_size);
    change(8, disk.max_write_zeroes_size);
    return disk;
}

void check_params(const uapi::params& p, const ublk::disk_attributes& disk,
                  std::uint32_t max_io_bytes) {
    expect(ublk::sectors_to_bytes(p.basic.dev_sectors) == disk.size, "the disk has another size");
    expect(1u << p.basic.logical_bs_shift == disk.logical_block_size &&
               1u << p.basic.physical_bs_shift == disk.physical_block_size &&
               1u << p.basic.io_min_shift == disk.minimum_io_size &&
               1u << p.basic.io_opt_shift == disk.optimal_io_size,
           "a block size is not what the backend says");
    expect(ublk::sectors_to_bytes(p.basic.max_sectors) <= max_io_bytes,
           "requests are larger than their buffers");
    const bool offered = (p.types & uapi::param_type::discard) != 0;
    expect(offered == (disk.discards || disk.max_write_zeroes_size != 0),
           "discard or write zeroes is offered by mistake");
    expect((p.discard.max_discard_sectors != 0) == disk.discards,
           "discard is offered, or not, by mistake");
    expect((p.discard.max_write_zeroes_sectors != 0) == (disk.max_write_zeroes_size != 0),
           "write zeroes is offered, or not, by mistake");
    expect(ublk::sectors_to_bytes(p.discard.max_discard_sectors) <= disk.max_discard_size ||
               !disk.discards,
           "discards are larger than the backend takes");
    expect(ublk::sectors_to_bytes(p.discard.max_write_zeroes_sectors) <= disk.max_write_zeroes_size,
           "writes of zeroes are larger than the backend takes");
}

/// ADD_DEV as the library sends it, and SET_PARAMS.
void offer(const ublk::options& requested, const ublk::disk_attributes& disk, bool disk_is_fine,
           ublk::kernel_version version) {
    sim::world in{{.seed = 1, .version = version, .switches = 0}};
    const sim::kernel as = in.boot();
    ublk::detail::control_commands<sim::kernel> commands{as, 1000s};
    uapi::dev_info info;
    info.dev_id = requested.id.value_or(uapi::any_dev_id);
    info.nr_hw_queues = static_cast<std::uint16_t>(requested.queues != 0 ? requested.queues : 4);
    info.queue_depth = static_cast<std::uint16_t>(requested.depth);
    info.max_io_buf_bytes = requested.max_io_bytes;
    const bool can_skip = version >= ublk::kernel_version{7, 0};
    info.flags = requested.partition_scan || !can_skip ? 0 : feature::no_auto_part_scan;
    const uapi::dev_info granted = commands.add_dev(info);
    expect((info.flags & ~granted.flags) == 0, "a feature that the library asks for is dropped");
    expect(granted.max_io_buf_bytes >= page_size(), "buffers are smaller than a page");
    if (disk_is_fine) {
        const uapi::params given = ublk::to_params(disk, granted.max_io_buf_bytes);
        check_params(given, disk, granted.max_io_buf_bytes);
        commands.set_params(granted.dev_id, given);
        uapi::params kept = commands.get_params(granted.dev_id);
        kept.types &= ~uapi::param_type::devt;
        expect(kept.types == given.types &&
                   std::memcmp(&kept.basic, &given.basic, sizeof given.basic) == 0 &&
                   std::memcmp(&kept.discard, &given.discard, sizeof given.discard) == 0,
               "GET_PARAMS has other parameters than were set");
    }
    commands.del_dev(granted.dev_id);
    expect(in.devices() == 0, "a device is left behind");
}

void fuzz_options(bytes& in) {
    const ublk::kernel_version version = versions[in.below(std::size(versions))];
    const ublk::options requested = options_from(in);
    const ublk::disk_attributes disk = attributes_from(in);
    const bool options_are_fine = accepted([&] { ublk::validate(requested, page_size()); });
    const bool disk_is_fine = accepted([&] { ublk::validate(disk, page_size()); });
    if (!options_are_fine) {
        return;
    }
    try {
        offer(requested, disk, disk_is_fine, version);
    } catch (const ublk::error& why) {
        wrong(std::string{"what was accepted the driver refuses: "} + why.what());
    }
}

// ---------------------------------------------------------------- features

/// What ADD_DEV answers to these flags; the flags granted where it takes them.
std::optional<std::uint64_t> add_with(std::uint64_t flags, ublk::kernel_version version, bool root,
                                      bool zoned) {
    sim::world in{{.seed = 1, .version = version, .root = root, .zoned = zoned, .switches = 0}};
    const sim::kernel as = in.boot();
    sim::kernel::control control = as.open_control();
    ublk::detail::control_command c;
    uapi::dev_info info;
    info.dev_id = c.header.dev_id = 0;
    info.nr_hw_queues = info.queue_depth = 1;
    info.max_io_buf_bytes = page_size();
    info.io_desc_size = sizeof(uapi::io_desc);
    info.flags = flags;
    c.op = uapi::ctrl::add_dev;
    c.header.queue_id = uapi::no_queue_id;
    c.header.len = sizeof info;
    std::memcpy(c.payload, &info, sizeof info);
    const ublk::detail::control_ticket ticket = control.begin(c);
    const int code = control.finish(ticket, c, as.now() + 10s);
    std::memcpy(static_cast<void*>(&info), c.payload, sizeof info);
    in.settle();
    expect(in.forget_devices() == (code == 0 ? 1 : 0), "ADD_DEV and the devices disagree");
    if (code == 0) {
        return info.flags;
    }
    expect(code == -EINVAL || (code == -EPERM && !root), "ADD_DEV fails with another errno");
    return std::nullopt;
}

/// Rules that older drivers do not know; what they do then is in the table's `since` or nowhere.
bool applies(const ublk::feature_rule& rule, ublk::kernel_version version) {
    if (ublk::since(rule.others | rule.flag) > version && !rule.needs) {
        return true;  // flags that are not there are taken away before it matters
    }
    // KNOWN: conflict() knows no versions. USER_COPY for UNPRIVILEGED_DEV was accepted until 6.11,
    // REISSUE without USER_RECOVERY until 6.12.
    if (rule.flag == feature::user_copy) {
        return version >= ublk::kernel_version{6, 12};
    }
    return rule.flag != feature::user_recovery_reissue ||
           rule.outcome != ublk::feature_outcome::refused || version >= ublk::kernel_version{6, 13};
}

void compare_with_table(std::uint64_t requested, ublk::kernel_version version, bool root) {
    // Root gets no unprivileged device, and nobody else gets another.
    requested =
        root ? requested & ~feature::unprivileged_dev : requested | feature::unprivileged_dev;
    std::uint64_t known = 0;
    for (const ublk::feature_info& each : ublk::feature_infos) {
        known |= each.since <= version ? each.flag : 0;
    }
    const std::optional<std::uint64_t> granted = add_with(requested & known, version, root, true);
    bool refused = false;
    std::uint64_t dropped = 0;
    for (const ublk::feature_rule& rule : ublk::feature_rules) {
        if (rule.violated_by(requested & known) && applies(rule, version)) {
            refused = refused || rule.outcome == ublk::feature_outcome::refused;
            dropped |= rule.outcome == ublk::feature_outcome::dropped ? rule.flag : 0;
        }
    }
    const std::string story = ublk::describe(requested & known) + " on Linux " + version.text() +
                              (root ? "" : " without privileges");
    if (refused != !granted) {
        wrong(story + (refused ? " is granted though a rule forbids it"
                               : " is refused though no rule forbids it"));
    }
    if (!granted) {
        return;
    }
    // A flag that is always on may be dropped, too.
    std::uint64_t due = (requested | ublk::always_on_features) & known;
    if ((requested & known & feature::batch_io) != 0) {
        dropped |= feature::per_io_daemon;
    }
    due &= ~dropped;
    if (*granted != due) {
        wrong(story + " becomes " + ublk::describe(*granted) + ", but the table says " +
              ublk::describe(due));
    }
    const std::optional<std::uint64_t> with_unknown = add_with(requested, version, root, true);
    expect(!with_unknown || (*with_unknown & ~known) == 0,
           "a driver grants a feature that it does not know");
}

void check_words(std::uint64_t flags) {
    const std::string text = ublk::describe(flags);
    const auto bars = static_cast<int>(std::count(text.begin(), text.end(), '|'));
    expect(flags == 0 ? text == "none" : bars + 1 == std::popcount(flags),
           "describe() names another number of flags");
    const std::optional<ublk::kernel_version> first = ublk::since(flags);
    expect(first.has_value() == ((flags & ~ublk::known_features) == 0),
           "since() knows a flag that is not in the table, or does not know one that is");
    const std::optional<ublk::feature_rule> rule = ublk::conflict(flags);
    bool any = false;
    for (const ublk::feature_rule& each : ublk::feature_rules) {
        any = any || each.violated_by(flags);
    }
    expect(rule.has_value() == any, "conflict() does not find what the rules say");
    expect(!rule || !rule->sentence.empty(), "a conflict without a sentence");
    for (const ublk::kernel_version version : versions) {
        std::uint64_t known = 0;
        for (const ublk::feature_info& each : ublk::feature_infos) {
            known |= each.since <= version ? each.flag : 0;
        }
        const bool all = (flags & ~known) == 0;
        expect(all == (first && *first <= version), "since() and the table disagree");
    }
}

void fuzz_features(bytes& in) {
    const auto bits = in.number();
    const bool root = (bits & 1) != 0;
    std::uint64_t flags = 0;
    if ((bits & 2) != 0) {
        flags = in.number<std::uint64_t>();
    } else {  // a few, since many are nearly always refused
        for (unsigned n = 1 + (bits >> 2 & 3); n != 0; --n) {
            flags |= std::uint64_t{1} << in.below(21);
        }
    }
    check_words(flags);
    for (const ublk::kernel_version version : versions) {
        compare_with_table(flags & ublk::known_features, version, root);
    }
}

// ---------------------------------------------------------------- arithmetic

void fuzz_units(bytes& in) {
    const auto n = some_size(in);
    const std::uint64_t sectors = n >> ublk::sector_shift;
    expect(ublk::bytes_to_sectors(ublk::sectors_to_bytes(sectors)) == sectors,
           "sectors do not survive as bytes");
    expect(ublk::is_sector_aligned(n) == (ublk::sectors_to_bytes(ublk::bytes_to_sectors(n)) == n),
           "alignment to sectors is misjudged");
    expect(ublk::is_power_of_two(n) == (std::popcount(n) == 1), "a power of two is misjudged");
    const std::uint64_t power = std::uint64_t{1} << in.below(63);
    expect(std::uint64_t{1} << ublk::shift_of(power) == power, "a shift does not survive");
    const std::uint64_t down = ublk::round_down(n, power);
    expect(down <= n && n - down < power && down % power == 0, "round_down is wrong");
    if (n <= std::numeric_limits<std::uint64_t>::max() - power) {
        const std::uint64_t up = ublk::round_up(n, power);
        expect(up >= n && up - n < power && up % power == 0, "round_up is wrong");
    }
}

void fuzz_positions(bytes& in) {
    const auto queue = static_cast<std::uint16_t>(in.number<std::uint16_t>() % 4096);
    const auto tag = in.number<std::uint16_t>();
    const auto offset =
        static_cast<std::uint32_t>(in.number<std::uint32_t>() % uapi::max_io_buf_bytes);
    const ublk::detail::user_data t = ublk::detail::user_data::io(queue, ublk::tag{tag});
    expect(t.is_io() && t.tag().value() == tag && t.queue_index() == queue &&
               ublk::detail::user_data{t.raw()} == t && !ublk::detail::user_data::wake().is_io(),
           "a token does not say what it was made of");
    const std::uint64_t position = uapi::user_copy_position(queue, tag, offset);
    const std::uint64_t inside = position - uapi::io_buf_offset;
    expect(inside < uapi::io_buf_end && inside % uapi::max_io_buf_bytes == offset &&
               static_cast<std::uint16_t>(inside >> uapi::tag_shift) == tag &&
               inside >> uapi::qid_shift == queue,
           "a position does not say what it was made of");
    const std::uint64_t shared = uapi::shmem_zc_addr(tag, offset);
    expect(uapi::shmem_zc_index(shared) == tag && uapi::shmem_zc_offset(shared) == offset,
           "an address in shared memory does not say what it was made of");
    const uapi::auto_buf_reg slot{tag, in.number(), 0, 0};
    expect(slot.sqe_addr() == (std::uint64_t{tag} | std::uint64_t{slot.flags} << 16),
           "a buffer slot is encoded in another way");
    const auto depth = 1u + in.number<std::uint16_t>() % uapi::max_queue_depth;
    const auto bytes_each = 24u + in.below(30) * 8;
    const std::size_t size = uapi::cmd_buf_size(depth, bytes_each, page_size());
    expect(size >= std::size_t{depth} * bytes_each && size % page_size() == 0 &&
               size <= uapi::cmd_buf_stride(bytes_each, page_size()),
           "descriptors do not fit where they are mapped");
}

void fuzz_answers(bytes& in) {
    const auto code = in.number<std::int32_t>();
    const auto op = in.flag()
                        ? in.number<std::uint32_t>()
                        : (in.flag() ? uapi::ctrl::act(in.number()) : uapi::ctrl::ask(in.number()));
    const ublk::result r = ublk::result::failure(code);
    expect(!r.ok() && r.error() > 0 && r.error() <= 4095 && r.error() != EAGAIN &&
               r.error() != EINTR,
           "a failure is none, or one that clients misread");
    expect(!ublk::detail::command_name(op).empty(), "a command without a name");
    const ublk::detail::diagnosis words = ublk::detail::diagnose(op, code);
    expect(words.cause.empty() == words.remedy.empty(), "a cause without a remedy");
    expect(uapi::legacy(op) == (op & 0xff), "the number of a command is lost");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes in{data, size};
    switch (in.below(8)) {
    case 0:
        fuzz_features(in);
        break;
    case 1:
        fuzz_units(in);
        break;
    case 2:
        fuzz_positions(in);
        break;
    case 3:
        fuzz_answers(in);
        break;
    default:
        fuzz_options(in);
        break;
    }
    return 0;
}
