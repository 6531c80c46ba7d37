// SPDX-License-Identifier: MIT
#pragma once

// What each feature flag is called, which kernel brought it, and which flags it cannot do without
// or beside. The driver answers a wrong combination with a bare EINVAL, or drops a flag and says
// nothing; conflict() says it in words, before the driver is asked.
//
// The table is walked by Hana while compiling, since entries differ in their number of rules. What
// is left for run time are two plain arrays.

#include <ublk/kernel_version.hpp>
#include <ublk/uapi.hpp>

#include <boost/hana/tuple.hpp>
#include <boost/hana/unpack.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ublk::inline v0 {

struct feature_info {
    std::string_view name;  // the kernel's name without its UBLK_F_
    std::uint64_t flag;
    kernel_version since;
    bool always_on;  // the driver sets it, asked or not
};

enum class feature_outcome : std::uint8_t {
    refused,  // add_dev fails with EINVAL
    dropped,  // the driver clears the rule's flag and says nothing
    unsafe,   // the driver agrees, and then data goes wrong
};

struct feature_rule {
    std::uint64_t flag;
    bool needs;  // true: flag needs one of others; false: flag goes with none of others
    std::uint64_t others;
    feature_outcome outcome;
    std::string_view sentence;

    [[nodiscard]] constexpr bool violated_by(std::uint64_t flags) const noexcept {
        return (flags & flag) != 0 && ((flags & others) == 0) == needs;
    }
};

namespace detail::features {

namespace hana = boost::hana;

template <std::size_t Rules>
struct feature_entry {
    feature_info info;
    std::array<feature_rule, Rules> rules;
};

struct unbound_rule {
    bool needs;
    std::uint64_t others;
    feature_outcome outcome;
    std::string_view sentence;
};

constexpr unbound_rule needs(std::uint64_t any_of, std::string_view sentence) {
    return {true, any_of, feature_outcome::refused, sentence};
}
constexpr unbound_rule refused_with(std::uint64_t others, std::string_view sentence) {
    return {false, others, feature_outcome::refused, sentence};
}
constexpr unbound_rule dropped_with(std::uint64_t others, std::string_view sentence) {
    return {false, others, feature_outcome::dropped, sentence};
}
constexpr unbound_rule unsafe_with(std::uint64_t others, std::string_view sentence) {
    return {false, others, feature_outcome::unsafe, sentence};
}

template <class... Rules>
constexpr auto entry(feature_info info, Rules... rules) {
    return feature_entry<sizeof...(Rules)>{
        info,
        {feature_rule{info.flag, rules.needs, rules.others, rules.outcome, rules.sentence}...}};
}

inline constexpr bool forced = true;
inline constexpr bool requested = false;

// clang-format off
inline constexpr auto table = hana::make_tuple(
    entry({"SUPPORT_ZERO_COPY", uapi::feature::support_zero_copy, {6, 15}, requested},
          refused_with(uapi::feature::unprivileged_dev,
                       "SUPPORT_ZERO_COPY is refused for UNPRIVILEGED_DEV: a server could pass on "
                       "kernel memory it never filled")),
    entry({"URING_CMD_COMP_IN_TASK", uapi::feature::uring_cmd_comp_in_task, {6, 0}, forced}),
    entry({"NEED_GET_DATA", uapi::feature::need_get_data, {6, 0}, requested},
          dropped_with(uapi::feature::user_copy | uapi::feature::support_zero_copy |
                           uapi::feature::auto_buf_reg | uapi::feature::batch_io,
                       "NEED_GET_DATA is dropped beside USER_COPY, SUPPORT_ZERO_COPY, AUTO_BUF_REG "
                       "and BATCH_IO: with those the kernel never waits for a buffer")),
    entry({"USER_RECOVERY", uapi::feature::user_recovery, {6, 1}, requested},
          dropped_with(uapi::feature::unprivileged_dev,
                       "USER_RECOVERY is dropped for UNPRIVILEGED_DEV: clients could hang on a "
                       "server that nobody trusts to come back")),
    entry({"USER_RECOVERY_REISSUE", uapi::feature::user_recovery_reissue, {6, 1}, requested},
          needs(uapi::feature::user_recovery, "USER_RECOVERY_REISSUE needs USER_RECOVERY"),
          refused_with(uapi::feature::user_recovery_fail_io,
                       "USER_RECOVERY_REISSUE and USER_RECOVERY_FAIL_IO exclude each other: "
                       "requests either wait for the next server or fail"),
          dropped_with(uapi::feature::unprivileged_dev,
                       "USER_RECOVERY_REISSUE is dropped for UNPRIVILEGED_DEV, together with "
                       "USER_RECOVERY")),
    entry({"UNPRIVILEGED_DEV", uapi::feature::unprivileged_dev, {6, 3}, requested}),
    entry({"CMD_IOCTL_ENCODE", uapi::feature::cmd_ioctl_encode, {6, 4}, forced}),
    entry({"USER_COPY", uapi::feature::user_copy, {6, 5}, requested},
          refused_with(uapi::feature::unprivileged_dev,  // accepted until 6.11
                       "USER_COPY is refused for UNPRIVILEGED_DEV: a server could pass on kernel "
                       "memory it never filled")),
    entry({"ZONED", uapi::feature::zoned, {6, 6}, requested},
          needs(uapi::feature::user_copy | uapi::feature::support_zero_copy,
                "ZONED needs USER_COPY or SUPPORT_ZERO_COPY: without them the field that returns "
                "the sector of a zone append holds the buffer")),
    entry({"USER_RECOVERY_FAIL_IO", uapi::feature::user_recovery_fail_io, {6, 13}, requested},
          needs(uapi::feature::user_recovery, "USER_RECOVERY_FAIL_IO needs USER_RECOVERY")),
    entry({"UPDATE_SIZE", uapi::feature::update_size, {6, 16}, requested}),
    entry({"AUTO_BUF_REG", uapi::feature::auto_buf_reg, {6, 16}, requested},
          refused_with(uapi::feature::unprivileged_dev,
                       "AUTO_BUF_REG is refused for UNPRIVILEGED_DEV: a server could pass on "
                       "kernel memory it never filled")),
    entry({"QUIESCE", uapi::feature::quiesce, {6, 16}, requested},
          needs(uapi::feature::user_recovery,
                "QUIESCE needs USER_RECOVERY: only a recoverable device outlives its server")),
    entry({"PER_IO_DAEMON", uapi::feature::per_io_daemon, {6, 16}, forced},
          dropped_with(uapi::feature::batch_io,
                       "PER_IO_DAEMON is dropped beside BATCH_IO: there any thread may serve any "
                       "tag")),
    entry({"BUF_REG_OFF_DAEMON", uapi::feature::buf_reg_off_daemon, {6, 17}, forced}),
    entry({"BATCH_IO", uapi::feature::batch_io, {7, 0}, requested}),
    entry({"INTEGRITY", uapi::feature::integrity, {7, 0}, requested},
          needs(uapi::feature::user_copy,
                "INTEGRITY needs USER_COPY: metadata is reached by pread and pwrite only")),
    entry({"SAFE_STOP_DEV", uapi::feature::safe_stop_dev, {7, 0}, forced}),
    entry({"NO_AUTO_PART_SCAN", uapi::feature::no_auto_part_scan, {7, 0}, requested}),
    entry({"SHMEM_ZC", uapi::feature::shmem_zc, {7, 1}, requested},
          unsafe_with(uapi::feature::need_get_data,
                      "SHMEM_ZC beside NEED_GET_DATA corrupts writes: the driver overwrites the "
                      "place of the shared data with the server's buffer, then copies nothing")),
    entry({"IO_DESC_SIZE", uapi::feature::io_desc_size, {7, 3}, requested}));
// clang-format on

inline constexpr auto infos_of = [](const auto&... each) { return std::array{each.info...}; };

inline constexpr auto rules_of = []<std::size_t... Rules>(const feature_entry<Rules>&... each) {
    std::array<feature_rule, (0 + ... + Rules)> all{};
    std::size_t count = 0;
    const auto add = [&](const auto& rules) {
        for (const feature_rule& rule : rules) {
            all[count++] = rule;
        }
    };
    (add(each.rules), ...);
    return all;
};

}  // namespace detail::features

// Every feature, in the order of its bit.
inline constexpr auto feature_infos =
    boost::hana::unpack(detail::features::table, detail::features::infos_of);

// Every rule between features, in the order of the bit it is about.
inline constexpr auto feature_rules =
    boost::hana::unpack(detail::features::table, detail::features::rules_of);

// The flags of all features this library knows, and those the driver grants unasked. Leave the
// latter out of a comparison of asked with granted; an older driver sets fewer of them.
inline constexpr std::uint64_t known_features = [] {
    std::uint64_t flags = 0;
    for (const feature_info& each : feature_infos) {
        flags |= each.flag;
    }
    return flags;
}();
inline constexpr std::uint64_t always_on_features = [] {
    std::uint64_t flags = 0;
    for (const feature_info& each : feature_infos) {
        flags |= each.always_on ? each.flag : 0;
    }
    return flags;
}();

static_assert(feature_infos.size() == 21, "ublk: the feature table must hold all 21 bits");
static_assert(
    [] {
        for (std::size_t bit = 0; bit < feature_infos.size(); ++bit) {
            if (feature_infos[bit].flag != std::uint64_t{1} << bit) {
                return false;
            }
        }
        return true;
    }(),
    "ublk: the feature table must hold every bit once, in order");

// Returns the first rule that these flags break, if there is one: print its sentence.
[[nodiscard]] constexpr std::optional<feature_rule> conflict(std::uint64_t flags) noexcept {
    for (const feature_rule& rule : feature_rules) {
        if (rule.violated_by(flags)) {
            return rule;
        }
    }
    return std::nullopt;
}

// Returns the first kernel release with all of these flags: 0.0 when flags is empty, nothing when
// this library does not know one of them.
[[nodiscard]] constexpr std::optional<kernel_version> since(std::uint64_t flags) noexcept {
    if ((flags & ~known_features) != 0) {
        return std::nullopt;
    }
    kernel_version newest;
    for (const feature_info& each : feature_infos) {
        if ((flags & each.flag) != 0) {
            newest = std::max(newest, each.since);
        }
    }
    return newest;
}

// Returns "USER_COPY|BATCH_IO|bit 33", or "none".
[[nodiscard]] inline std::string describe(std::uint64_t flags) {
    std::string text;
    for (std::size_t bit = 0; bit < 64; ++bit) {
        if ((flags >> bit & 1) == 0) {
            continue;
        }
        text += text.empty() ? "" : "|";
        if (bit < feature_infos.size()) {
            text += feature_infos[bit].name;
        } else {
            text += "bit " + std::to_string(bit);
        }
    }
    return text.empty() ? "none" : text;
}

}  // namespace ublk::inline v0
