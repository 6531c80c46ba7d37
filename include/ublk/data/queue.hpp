// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/tag_buffers.hpp>
#include <ublk/data/tag_state.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/uapi.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace ublk::inline v0::detail {

/// One hardware queue as its thread sees it: the driver's descriptors and our tag states, and
/// what its data path needs.
struct queue {
    queue() noexcept = default;
    queue(queue_id number, mapping shared_descriptors, std::size_t descriptor_bytes,
          tag_buffers memory, unsigned depth, int channel_file = -1)
        : descriptors{std::move(shared_descriptors)},
          descriptor_size{descriptor_bytes}, data{std::move(memory)},
          tag_states(depth), id{number}, file{channel_file} {}

    /// The same where other threads serve the queue as well: this one has every `every`-th tag.
    queue&& share(std::uint16_t from, std::uint16_t every) && noexcept {
        first = from;
        step = every;
        return std::move(*this);
    }

    [[nodiscard]] const uapi::io_desc& descriptor(tag t) const noexcept {
        return *reinterpret_cast<const uapi::io_desc*>(descriptors.data() +
                                                       t.value() * descriptor_size);
    }

    mapping descriptors;
    std::size_t descriptor_size = 0;       ///< as granted: newer drivers space them out
    tag_buffers data;                      ///< empty where the data path needs none
    std::span<std::byte> thread_buffer{};  ///< of `thread_copy`: for any tag, one at a time
    fixed_array<tag_state> tag_states;
    queue_id id{};
    std::uint16_t first = 0;  ///< tag that is served here
    std::uint16_t step = 1;   ///< from one to the next
    int file = -1;            ///< /dev/ublkcN, for pread and pwrite
};

/// A tag of one queue, and its index among all tags of its thread.
struct tag_ref {
    const ublk::detail::queue& queue;
    ublk::tag tag;
    std::uint16_t index;
};

/// Tags of queues of one depth, those of other threads among them.
[[nodiscard]] inline std::size_t tags_of(std::span<const queue> queues) noexcept {
    return queues.empty() ? 0 : queues.size() * queues.front().tag_states.size();
}

}  // namespace ublk::inline v0::detail
