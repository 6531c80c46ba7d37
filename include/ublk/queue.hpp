// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/buffers.hpp>
#include <ublk/mapping.hpp>
#include <ublk/slot.hpp>
#include <ublk/uapi.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// One hardware queue as its thread sees it: the driver's descriptors and our slots, one a tag, and
/// what its data path needs.
struct queue {
    queue(queue_id number, mapping shared_descriptors, std::size_t descriptor_bytes, buffers memory,
          unsigned depth, int channel_file = -1)
        : descriptors{std::move(shared_descriptors)},
          descriptor_size{descriptor_bytes}, data{std::move(memory)},
          slots(depth), id{number}, file{channel_file} {}

    [[nodiscard]] const uapi::io_desc& descriptor(tag which) const noexcept {
        return *reinterpret_cast<const uapi::io_desc*>(descriptors.data() +
                                                       which.value() * descriptor_size);
    }

    mapping descriptors;
    std::size_t descriptor_size;  ///< as granted: newer drivers space them out
    buffers data;                 ///< empty where the data path needs none
    std::vector<slot> slots;
    queue_id id;
    int file;  ///< /dev/ublkcN, for pread and pwrite
};

}  // namespace ublk::inline v0
