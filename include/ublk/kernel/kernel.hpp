// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/kernel_version.hpp>
#include <ublk/result.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <sys/uio.h>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace ublk::inline v0::detail {

/// One control command on its way, and the memory that it reads and writes. It lives on the heap of
/// the control channel until the kernel has answered, however long that takes: a command whose
/// deadline passed may still write into its buffer.
struct control_command {
    static constexpr std::size_t payload_max = 1024;  // the largest: a CPU mask of 8192 CPUs

    std::uint32_t op = 0;
    uapi::ctrl_cmd header{};
    alignas(8) std::byte payload[payload_max]{};
};

/// What a queue thread will ask of its port.
struct port_needs {
    unsigned tags = 0;                     ///< requests that it may own
    unsigned operations = 0;               ///< operations of backends at the same time
    unsigned reserved_buffers = 0;         ///< places for clients' pages in the table of buffers
    std::span<const iovec> tag_buffers{};  ///< to register, one a tag
    std::span<const registered_file* const> files{};  ///< of the backend
    std::span<const queue_id> queues{};               ///< in the order of their indices
    unsigned depth = 0;                               ///< tags of each
    std::uint16_t batch_flags = 0;       ///< uapi::batch_flag bits of what goes with each tag
    bool spins = false;                  ///< `ready` is to tell without a system call
    bool kernel_submits = false;         ///< by a thread of its own (SQPOLL),
    unsigned kernel_idle_ms = 0;         ///< which sleeps after so long without work
    const void* wakeup_event = nullptr;  ///< to wake when there is something to collect
};

/// What goes with a tag to the driver: where the kernel is to copy to or from, and in which place
/// of the ring's table of buffers it is to register the client's pages (uapi::auto_buf_reg).
struct buffer_address {
    std::uint64_t memory = 0;
    std::uint64_t registration = 0;
};

/// A command on one tag of /dev/ublkcN, as the driver reads it. `address` is of memory, or the
/// index of a registered buffer.
[[nodiscard]] inline uapi::io_cmd io_command(queue_id queue, tag t, int result,
                                             std::uint64_t address) noexcept {
    uapi::io_cmd command;
    command.q_id = queue.value();
    command.tag = t.value();
    command.result = result;
    command.addr = address;
    return command;
}

/// Names one command on its way.
using control_ticket = std::uint32_t;

/// Has no answer yet; no command answers with it.
inline constexpr int control_pending = -ETIME;

/// What the library asks of a kernel. The real one is `linux_kernel`; any other with the same shape
/// makes the very same `device` run against it. It is a handle, cheap to copy; all copies mean the
/// same kernel.
///
/// `control` carries control commands, from any thread but one at a time; `begin` never blocks,
/// `finish` waits until the deadline and returns the kernel's answer (>= 0 or -errno) with the
/// payload copied out, `control_pending`, or at once -errno where no answer can come any more;
/// `cancel` asks the kernel to give up on a command. Both take the command's ticket.
/// `channel` is an open /dev/ublkcN; it throws `error` where opening fails until the deadline.
///   `file()` is a descriptor for pread and pwrite of a request's bytes; after `close_for_good()`,
///   which closes it, no other file gets that number.
/// `port` is what one queue thread talks to, created (from channel, wakeup and port_needs) and used
/// by that thread alone except `wakeup`:
///   `fetch`, `commit` and `get_data` queue a command on a tag, whose answer is an event;
///   `register_buffer` and `unregister_buffer` one that is an event only where it fails;
///   `start` queues an operation of a backend, `cancel_operations` asks to give up all of them;
///   `flush` hands over what is queued, `wait` does so and sleeps until there is an event, both
///   returning 0 or -errno; `poll` hands over and collects without sleeping; `drain` passes each
///   event to a function of (user_data, int result). `has_events` tells whether it would pass any,
///   `ready` whether it would after a `poll`; `now` is the time.
/// `wakeup_event` is for a thread that waits for several ports at once: a port made with one in its
/// port_needs wakes it whenever `ready` becomes true; `wake` may be called by any thread, and
/// `wait` sleeps until somebody has called it since the last time. Optional.
/// `node_cache`, made from the id of a device, tells what of its node's page cache is not written
///   back. Optional.
/// `disk_write_back`, made from a kernel and the id of a device, begins to write back all that page
///   caches and file systems have of its disk; `ended` waits for that. Optional.
/// `wakeup` makes a port's `wait` return with an event of `user_data::wake()`, from any thread,
/// once for each call of `listen` (the port's constructor makes the first).
template <class K>
concept kernel = host<K> && std::copyable<K> &&
    requires(const K& k, typename K::control& control, control_command command, deadline until,
             control_ticket ticket) {
    { k.version() } -> std::same_as<kernel_version>;
    { k.page_size() } -> std::convertible_to<std::size_t>;
    { control.begin(command) } -> std::same_as<control_ticket>;
    { control.finish(ticket, command, until) } -> std::same_as<int>;
    { control.cancel(ticket) } -> std::same_as<void>;
} && requires(const K& k, std::uint32_t id, deadline until, typename K::channel& channel) {
    { k.open_control() } -> std::same_as<typename K::control>;
    { k.open_channel(id, until) } -> std::same_as<typename K::channel>;
    { channel.map(std::uint64_t{}, std::size_t{}) } -> std::same_as<mapping>;
    { channel.file() } -> std::same_as<int>;
    { channel.close_for_good() }
    noexcept;
} && requires(typename K::port& port, queue_id queue, tag t, buffer_address buffer, user_data ud,
              const typename K::wakeup& wakeup, const operation& requested) {
    { port.fetch(queue, t, buffer, ud) }
    noexcept;
    { port.commit(queue, t, int{}, buffer, ud) }
    noexcept;
    { port.get_data(queue, t, std::uint64_t{}, ud) }
    noexcept;
    { port.register_buffer(queue, t, std::uint16_t{}) }
    noexcept;
    { port.unregister_buffer(queue, t, std::uint16_t{}) }
    noexcept;
    { port.start(requested) }
    noexcept;
    { port.cancel_operations() }
    noexcept;
    { port.listen() }
    noexcept;
    { port.flush() }
    noexcept->std::same_as<int>;
    { port.wait() }
    noexcept->std::same_as<int>;
    { port.flush_and_collect() }
    noexcept->std::same_as<int>;
    { port.poll() }
    noexcept->std::same_as<int>;
    { port.has_events() }
    noexcept->std::same_as<bool>;
    { port.ready() }
    noexcept->std::same_as<bool>;
    { port.now() }
    noexcept->std::same_as<deadline>;
    { wakeup.wake() }
    noexcept;
};

inline void demand_recent_kernel(const kernel_version& running) {
    if (running < oldest_kernel) {
        fail(EOPNOTSUPP, "start", std::nullopt,
             "Linux " + running.text() + " is older than " + oldest_kernel.text() +
                 ", the oldest that this library is made for",
             "use Linux " + oldest_kernel.text() + " or newer");
    }
}

}  // namespace ublk::inline v0::detail
