// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data_path.hpp>
#include <ublk/features.hpp>
#include <ublk/kernel/setup_refused.hpp>
#include <ublk/options.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace ublk::inline v0::detail {

/// The flags of a device by which the driver knows how bytes travel.
inline constexpr std::uint64_t path_features =
    uapi::feature::user_copy | uapi::feature::need_get_data | uapi::feature::support_zero_copy |
    uapi::feature::auto_buf_reg;

/// What is known of a start before the driver is asked.
struct path_facts {
    std::uint64_t known = 0;     ///< uapi::feature bits of the driver
    unsigned tags_a_thread = 0;  ///< at most
    std::span<const std::pair<data_path, std::string>> refused{};  ///< when it was tried, and why
    std::optional<data_path> preferred{};        ///< what the backend would rather have
    bool batch_io = false;                       ///< the driver's own batches are asked for
    std::uint64_t tag_buffers = 0;               ///< bytes that they would take,
    std::uint64_t tag_buffers_max = UINT64_MAX;  ///< and may
    std::optional<std::uint64_t> made_for{};     ///< path_features of a device that exists
};

/// Data paths in the order in which they are tried.
class path_ladder {
public:
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] data_path operator[](std::size_t i) const noexcept { return paths_[i]; }

    void push_back(data_path path) noexcept { paths_[size_++] = path; }
    void push_front(data_path path) noexcept {
        for (std::size_t i = size_++; i > 0; --i) {
            paths_[i] = paths_[i - 1];
        }
        paths_[0] = path;
    }

    /// Makes that one the first, where it is among them; whether it is.
    bool prefer(data_path path) noexcept {
        const auto end = paths_.begin() + size_;
        const auto found = std::find(paths_.begin(), end, path);
        if (found != end) {
            std::rotate(paths_.begin(), found, found + 1);
        }
        return found != end;
    }

private:
    std::array<data_path, data_path_names.size()> paths_{};
    std::size_t size_ = 0;
};

/// The data paths of one start, best first, and why the others are not among them.
struct path_choice {
    path_ladder candidates;
    std::string reason;  ///< what speaks against the better ones; "" where nothing does
    std::string merit;   ///< why the first is taken, where nothing speaks against better ones

    void reject(data_path path, const std::string& why) {
        reason += (reason.empty() ? "not " : "; not ") + std::string{to_string(path)} + ": " + why;
    }

    [[nodiscard]] const std::string& why() const noexcept {
        return reason.empty() ? merit : reason;
    }
};

/// From the fewest copies of the bytes to the most.
inline constexpr std::array paths_by_rank{
    data_path::auto_buffer, data_path::zero_copy,  data_path::pages, data_path::get_data,
    data_path::user_copy,   data_path::fixed_copy, data_path::copy,  data_path::thread_copy,
};

/// io_uring's table of registered buffers has room for so many (IORING_MAX_REG_BUFFERS).
inline constexpr unsigned registered_buffers_max = 16384;

/// "" where nothing is known against it.
[[nodiscard]] inline std::string objection(data_path path, const path_facts& facts) {
    const std::uint64_t needs = features_of(path);
    if (facts.made_for && (needs & path_features) != *facts.made_for) {
        return "the device was made for other ones (" + describe(*facts.made_for) + ")";
    }
    if ((needs & ~facts.known) != 0) {
        const std::optional<kernel_version> first = since(needs & ~facts.known);
        return "the driver has no " + describe(needs & ~facts.known) + ", which came with Linux " +
               (first ? first->text() : std::string{"?"});
    }
    if (facts.batch_io && !batches_carry(path)) {
        return path == data_path::get_data ? "the driver's batches do not ask where a write belongs"
                                           : "the driver's batches go by tag buffers";
    }
    const bool registers = registers_requests(path) || path == data_path::fixed_copy;
    if (registers && facts.tags_a_thread > registered_buffers_max) {
        return "a ring registers at most 16384 buffers, and one thread serves " +
               std::to_string(facts.tags_a_thread) + " tags";
    }
    for (const auto& [tried, why] : facts.refused) {
        if (tried == path) {
            return why;
        }
    }
    return {};
}

/// Memory instead of speed: puts a copy by way of the thread before one by way of tag buffers that
/// would take too much.
inline void spare_tag_buffers(path_choice& choice, const path_facts& facts) {
    const path_ladder& all = choice.candidates;
    if (!all.empty() && has_tag_buffers(all[0]) && facts.tag_buffers > facts.tag_buffers_max &&
        choice.candidates.prefer(data_path::thread_copy)) {
        choice.reason = "tag buffers would take " + std::to_string(facts.tag_buffers >> 10) +
                        " KiB, and may take " + std::to_string(facts.tag_buffers_max >> 10);
    }
}

/// Which ways to try, from what the backend offers, the driver and the limits. Throws `error` where
/// the one that `requested` requires cannot be.
[[nodiscard]] inline path_choice choose_path(bool (*offers)(data_path),
                                             const std::optional<data_path>& requested,
                                             const path_facts& facts) {
    path_choice choice;
    bool displaced = false;  // something better is possible than what the backend prefers
    for (const data_path path : paths_by_rank) {
        const bool possible = offers(path);
        if (requested ? path != *requested : !possible) {
            continue;
        }
        const std::string against =
            possible ? objection(path, facts)
                     : "the backend has no read and write that take their bytes that way";
        if (against.empty()) {
            const bool first = path == facts.preferred;
            displaced = displaced || (first && !choice.candidates.empty());
            first ? choice.candidates.push_front(path) : choice.candidates.push_back(path);
        } else if (path != data_path::thread_copy || choice.candidates.empty()) {
            choice.reject(path, against);  // it is better than no other
        }
    }
    if (displaced) {
        choice.reason = "the backend prefers it";
    }
    spare_tag_buffers(choice, facts);
    choice.merit = requested                       ? "it was asked for"
                   : offers(paths_by_rank.front()) ? "no other copies less"
                                                   : "the backend has functions for no better one";
    if (choice.candidates.empty()) {
        fail(EOPNOTSUPP, "choosing the data path", std::nullopt, choice.reason,
             requested ? "leave options::path empty, so that the best possible one is taken"
                       : "use a newer kernel, or give the backend functions that take a span");
    }
    return choice;
}

}  // namespace ublk::inline v0::detail
