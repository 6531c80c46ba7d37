// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/journal.hpp>
#include <ublk/sim/seam.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace ublk::inline v0::sim {

namespace detail {

/// A journal as lives of requests and operations instead of events.
struct lives {
    static constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

    struct life {
        journal::entry first;
        std::size_t began = 0;
        std::size_t ended = never;
        int result = 0;

        [[nodiscard]] bool went_well() const noexcept { return ended != never && result >= 0; }
        [[nodiscard]] bool writes() const noexcept {
            const opcode code = first.sqe.code;
            return code == opcode::write || code == opcode::writev || code == opcode::write_fixed;
        }
        [[nodiscard]] bool syncs() const noexcept { return first.sqe.code == opcode::fsync; }
    };

    explicit lives(const journal& book) {
        for (std::size_t now = 0; now < book.entries().size(); ++now) {
            const journal::entry& each = book.entries()[now];
            const bool of_request =
                each.type == journal::kind::handed || each.type == journal::kind::committed;
            auto& all = of_request ? requests : operations;
            if (each.type == journal::kind::handed || each.type == journal::kind::began) {
                all[each.number] = {each, now};
            } else {
                all[each.number].ended = now;
                all[each.number].result = each.result;
            }
        }
    }

    /// Whether a sync of that file, or of any where none is named, lies between these two moments.
    [[nodiscard]] bool synced(const journal::file_id* file, std::size_t after,
                              std::size_t before) const {
        for (const auto& [number, each] : operations) {
            (void)number;
            if (each.syncs() && each.went_well() && each.began > after && each.ended < before &&
                (file == nullptr || *file == each.first.file)) {
                return true;
            }
        }
        return false;
    }

    /// Whether what that write wrote is durable at that moment.
    [[nodiscard]] bool durable(const life& request, std::size_t since, std::size_t at) const {
        bool known = false;
        for (const auto& [number, each] : operations) {
            (void)number;
            if (each.writes() && each.went_well() && each.first.request == request.first.number) {
                known = true;
                if (!each.first.durable && !synced(&each.first.file, each.ended, at)) {
                    return false;
                }
            }
        }
        return known || synced(nullptr, since, at);  // nobody can say which file it went to
    }

    std::map<std::uint64_t, life> requests;
    std::map<std::uint64_t, life> operations;
};

[[nodiscard]] inline std::string text_of(const journal::entry& write) {
    return "the write of " + std::to_string(write.sectors) + " sectors from " +
           std::to_string(write.sector);
}

}  // namespace detail

/// What a FLUSH, or a write with FUA, that was answered well promised and did not keep, in words;
/// "" where nothing. A write counts as durable where each of its operations was so by itself
/// (RWF_DSYNC, O_DSYNC), or a sync of that file began after the operation and ended before the
/// answer. It says nothing of a backend that never writes by its ring.
[[nodiscard]] inline std::string broken_promise(const journal& book) {
    const detail::lives all{book};
    bool seen = false;
    for (const auto& [number, each] : all.operations) {
        (void)number;
        seen = seen || each.writes();
    }
    for (const auto& [number, each] : all.requests) {
        (void)number;
        if (!seen || !each.went_well()) {
            continue;
        }
        const bool fua = (each.first.flags & uapi::io_flag::fua) != 0;
        if (each.first.op == uapi::op::write && fua && !all.durable(each, each.began, each.ended)) {
            return detail::text_of(each.first) + " had FUA, was answered and is not durable";
        }
        if (each.first.op != uapi::op::flush) {
            continue;
        }
        for (const auto& [of, before] : all.requests) {
            (void)of;
            if (before.first.op == uapi::op::write && before.went_well() &&
                before.ended < each.began && !all.durable(before, before.ended, each.ended)) {
                return detail::text_of(before.first) +
                       " was answered before a FLUSH, which was answered, and is not durable";
            }
        }
    }
    return {};
}

}  // namespace ublk::inline v0::sim
