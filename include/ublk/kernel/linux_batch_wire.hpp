// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>
#include <ublk/kernel/linux_port.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace ublk::inline v0::detail {

/// Memory in which the kernel leaves the tags of one queue, as a ring of provided buffers: one for
/// each tag, since each event takes a buffer and tells of one tag at least. So it never runs dry.
class provided_buffers {
public:
    explicit provided_buffers(unsigned depth)
        : entries_{std::bit_ceil(depth)}, stride_{stride(depth)},
          memory_{entries_ * (sizeof(io_uring_buf) + stride_),
                  PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                  -1,
                  0,
                  "mapping memory for tags"} {
        io_uring_buf_ring_init(shared());
        for (unsigned i = 0; i < entries_; ++i) {
            add(static_cast<std::uint16_t>(i));
        }
    }

    [[nodiscard]] io_uring_buf_ring* shared() const noexcept {
        return reinterpret_cast<io_uring_buf_ring*>(memory_.data());
    }
    [[nodiscard]] unsigned entries() const noexcept { return entries_; }

    [[nodiscard]] const std::uint16_t* at(std::uint16_t buffer) const noexcept {
        return reinterpret_cast<const std::uint16_t*>(address(buffer));
    }

    void add(std::uint16_t buffer) noexcept {
        io_uring_buf_ring_add(shared(), address(buffer), static_cast<unsigned>(stride_), buffer,
                              static_cast<int>(entries_ - 1), 0);
        io_uring_buf_ring_advance(shared(), 1);
    }

private:
    [[nodiscard]] static std::size_t stride(unsigned depth) noexcept {
        constexpr std::size_t line = 64;
        const std::size_t bytes = std::min(depth, uapi::max_batch_tags) * sizeof(std::uint16_t);
        return (bytes + line - 1) / line * line;
    }

    [[nodiscard]] std::byte* address(std::uint16_t buffer) const noexcept {
        return memory_.data() + entries_ * sizeof(io_uring_buf) + buffer * stride_;
    }

    unsigned entries_;
    std::size_t stride_;
    mapping memory_;
};

/// One for each queue of a thread.
struct tag_buffer_groups {
    tag_buffer_groups(std::size_t queues, unsigned depth) {
        groups_.reserve(queues);
        for (std::size_t i = 0; i < queues; ++i) {
            groups_.emplace_back(depth);
        }
    }
    std::vector<provided_buffers> groups_;
};

/// The driver's batch commands (Linux 7.0), beside all that a port has. The ring goes first at the
/// end: until then the kernel may still write tags down.
class linux_batch_wire : private tag_buffer_groups, public linux_port {
public:
    linux_batch_wire(const linux_channel& device, const linux_wakeup& wakeup,
                     const port_needs& needs)
        : tag_buffer_groups{needs.queues.size(), needs.depth}, linux_port{device, wakeup, needs} {
        for (std::size_t place = 0; place < groups_.size(); ++place) {
            demand(io_.register_buffer_group(groups_[place].shared(), groups_[place].entries(),
                                             static_cast<std::uint16_t>(place)),
                   "providing io_uring with buffers for tags");
        }
    }

    /// The tags of a queue, for the first time. `elements` must stay until `flush` has succeeded.
    void prepare_tags(const uapi::batch_io& command, const void* elements, user_data ud) noexcept {
        io_.fixed_command(uapi::io::prep_io_cmds, command, ud,
                          reinterpret_cast<std::uintptr_t>(elements));
    }

    /// Tags with their answers. `elements` must stay until it is answered.
    void commit_tags(const uapi::batch_io& command, const void* elements, user_data ud) noexcept {
        io_.fixed_command(uapi::io::commit_io_cmds, command, ud,
                          reinterpret_cast<std::uintptr_t>(elements));
    }

    /// One tag with its answer; there is an event only if the driver refuses it. `element` must
    /// stay until `flush` has succeeded.
    void commit_single(const uapi::batch_io& command, const void* element, user_data ud) noexcept {
        io_.quiet_command(uapi::io::commit_io_cmds, command, ud,
                          reinterpret_cast<std::uintptr_t>(element));
    }

    /// From now on each event tells which tags have a request.
    void fetch_tags(queue_id queue, std::uint16_t place, user_data ud) noexcept {
        uapi::batch_io command;
        command.q_id = queue.value();
        command.elem_bytes = sizeof(std::uint16_t);
        io_.multishot_command(uapi::io::fetch_io_cmds, command, ud, place);
    }

    /// What such an event says, until it is given back.
    [[nodiscard]] std::span<const std::uint16_t> tags(std::uint16_t place, int answer,
                                                      std::uint32_t event) const noexcept {
        const std::size_t count =
            answer > 0 ? static_cast<std::size_t>(answer) / sizeof(std::uint16_t) : 0;
        return {groups_[place].at(static_cast<std::uint16_t>(event >> IORING_CQE_BUFFER_SHIFT)),
                count};
    }
    void give_back(std::uint16_t place, int, std::uint32_t event) noexcept {
        if ((event & IORING_CQE_F_BUFFER) != 0) [[likely]] {
            groups_[place].add(static_cast<std::uint16_t>(event >> IORING_CQE_BUFFER_SHIFT));
        }
    }
    [[nodiscard]] static bool goes_on(std::uint32_t event) noexcept {
        return (event & IORING_CQE_F_MORE) != 0;
    }

    /// Waits for so many events. More than one are waited for with a limit, since those to come
    /// may depend on what is said by those that are there.
    int wait(unsigned events) noexcept {
        constexpr std::int64_t limit = 20'000'000;  // nanoseconds
        const int code = events == 1 ? io_.submit_and_wait() : io_.submit_and_wait(limit, events);
        check_affinity();
        return code == -ETIME ? 0 : code;
    }

    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        io_.drain([&consume](std::uint64_t user, int answer, std::uint32_t event)
                      __attribute__((always_inline)) { consume(user_data{user}, answer, event); });
    }
};

}  // namespace ublk::inline v0::detail
