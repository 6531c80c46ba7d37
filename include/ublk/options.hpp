// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data_path.hpp>
#include <ublk/detail/buffer_memory.hpp>
#include <ublk/detail/cpu_set.hpp>
#include <ublk/error.hpp>
#include <ublk/event.hpp>
#include <ublk/time_limit.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ublk::inline v0 {

/// What clients see of a server that ends without `stop`: by a crash, by SIGKILL, or by a queue
/// thread that fails. Without recovery the disk ends with it; else /dev/ublkbN stays, and a next
/// server takes it over (`device::recover`).
enum class recovery_kind : std::uint8_t {
    none,            ///< all requests fail with EIO, and the disk is gone
    fail_in_flight,  ///< those that the server owned fail with EIO, all others wait
    reissue,         ///< all wait; those that the server owned are sent to the next one again
    fail_io          ///< all fail with EIO until the next one serves; Linux 6.13
};

[[nodiscard]] constexpr std::string_view to_string(recovery_kind kind) noexcept {
    switch (kind) {
    case recovery_kind::none:
        return "none";
    case recovery_kind::fail_in_flight:
        return "fail_in_flight";
    case recovery_kind::reissue:
        return "reissue";
    case recovery_kind::fail_io:
        return "fail_io";
    }
    return "unknown";
}

/// What is asked of the driver and of the library. What was granted is `device_info`.
///
/// Where the data path is `copy` or `fixed_copy`, the tag buffers take queues x depth x
/// max_io_bytes of memory, all of it touched at start.
struct options {
    /// Number N of /dev/ublkbN, below 1048576; empty: the driver picks a free one.
    std::optional<std::uint32_t> id{};

    /// Hardware queues, up to 4096; 0: one for each online CPU. The driver grants at most its CPUs.
    unsigned queues = 0;

    /// Requests in flight per queue, 1 to 4096.
    unsigned depth = 128;

    /// Threads that serve the queues, up to 4096, for a queue policy that can have any number
    /// (`interleaved`); 0: one for each online CPU.
    unsigned threads = 0;

    /// CPUs for `places::listed_cpus`; the first of them says which domain `places::one_l3` and
    /// `places::one_node` mean.
    std::vector<unsigned> cpus{};

    /// How long `waits::spin_then_block` looks for requests before it sleeps, up to an hour.
    std::chrono::nanoseconds spin{50'000};

    /// How long `within` lets a completion wait for others, up to an hour.
    std::chrono::nanoseconds batch_delay{20'000};

    /// After how long without work the kernel's thread of `sqpoll` sleeps.
    std::chrono::milliseconds sqpoll_idle{100};

    /// Largest read or write in one request: a page to 32 MiB; rounded down to pages. The kernel
    /// splits what is larger.
    std::uint32_t max_io_bytes = 256u << 10;

    /// Requires one data path; start fails where backend, kernel or limits do not allow it. Empty:
    /// the best that they allow (device_info::path tells which, and why).
    std::optional<data_path> path{};

    /// Hears what is chosen, refused and lost. `device::events` has the last of it without a hook.
    event_hook on_event{};

    /// Whether the next best will do where the kernel refuses locked or huge pages, the CPUs of a
    /// policy, the driver's batches or the best data path's buffers: device_info::fallbacks then
    /// tells what and why. Otherwise start fails.
    bool fall_back = true;

    /// Bytes that the tag buffers of this device may take before it is served by `thread_copy`,
    /// which does without; where the backend or the kernel has no other path they take more. On a
    /// `thread_set`, whose devices are many, they may take none.
    std::uint64_t tag_buffers_max = std::uint64_t{256} << 20;

    /// What backs the tag buffers.
    buffer_memory tag_buffer_memory = buffer_memory::standard;

    /// Locks the tag buffers in memory (mlock), so that a system short of memory that writes to
    /// this disk need not first read the server back in.
    bool lock_buffers = false;

    /// Bytes that each request's descriptor takes in the memory that the driver shares. With 64 no
    /// two lie in one cache line, which helps where several threads serve a queue (`interleaved`).
    /// Range: 0, the driver's 24; else 24 to 256, a multiple of 8.
    /// Kernel: 7.3; before that 24 is what there is, and device_info::fallbacks says so.
    std::uint16_t io_desc_size = 0;

    /// Looks for partitions at start. Switching it off needs kernel 7.0.
    bool partition_scan = true;

    /// What becomes of the disk when its server ends without `stop`. `reissue` takes a backend that
    /// says it is `idempotent`. The driver gives it to privileged servers only.
    recovery_kind recovery = recovery_kind::none;

    /// How long `device::recover` waits until the driver has noticed that the last server is gone,
    /// at least 1 ms. Before Linux 6.16 that takes 30 s where it died with all requests of a queue
    /// in its hands.
    time_limit recovery_deadline = std::chrono::minutes{1};

    /// How long each control command and each step of start may take, at least 1 ms. With
    /// `no_deadline` start and stop wait for as long as the driver does.
    time_limit command_deadline = std::chrono::seconds{10};

    /// How long STOP_DEV, which writes dirty pages back through the backend, goes on without an
    /// answer of the backend's, at least 1 ms. After that the requests that are left fail with EIO.
    /// With `no_deadline` a stop waits for the backend for ever.
    time_limit stop_deadline = std::chrono::minutes{1};
};

/// The id of a device that was never started.
inline constexpr std::uint32_t no_device_id = 0xffff'ffff;

/// What the kernel granted. Empty before `start`.
struct device_info {
    std::uint32_t id = no_device_id;
    unsigned queues = 0;
    unsigned depth = 0;
    unsigned threads = 0;
    std::uint32_t max_io_bytes = 0;
    std::uint16_t io_desc_size = 0;     ///< bytes a descriptor takes
    std::uint64_t flags = 0;            ///< uapi::feature bits in force for this device
    std::uint64_t driver_features = 0;  ///< uapi::feature bits that the driver knows
    unsigned ring_flags = 0;            ///< IORING_SETUP_* of the queue threads' rings
    data_path path = data_path::copy;   ///< how the bytes of requests travel
    std::string path_reason{};          ///< why in that way
    bool batch_io = false;              ///< requests come and go in the driver's own batches
    bool per_io_daemon = false;         ///< several threads serve each queue (`interleaved`)
    recovery_kind recovery = recovery_kind::none;  ///< what a next server finds of the disk
    bool recovered = false;                ///< the disk was there before: see `device::recover`
    std::vector<std::string> fallbacks{};  ///< what was asked for and refused, and why
};

enum class device_state {
    idle,      ///< not started, or stopped
    starting,  ///< in start()
    live,      ///< serving
    stopping,  ///< in stop()
    failed,    ///< the queue threads ended by themselves: stop() cleans up
    of_parent  ///< this process was forked from the one that serves it
};

namespace detail {

[[noreturn, gnu::cold]] inline void bad_option(const std::string& cause, const char* remedy) {
    fail(EINVAL, "checking the options", std::nullopt, cause, remedy);
}

}  // namespace detail

/// Refuses what could not work on any kernel.
/// Throws: `error` with EINVAL.
inline void validate(const options& requested, std::size_t page_size) {
    using detail::bad_option;
    if (requested.id && *requested.id >= uapi::max_devices) {
        bad_option("id is " + std::to_string(*requested.id), "choose one below 1048576, or none");
    }
    if (requested.queues > uapi::max_nr_queues) {
        bad_option("queues is " + std::to_string(requested.queues), "choose 1 to 4096, or 0");
    }
    if (requested.depth == 0 || requested.depth > uapi::max_queue_depth) {
        bad_option("depth is " + std::to_string(requested.depth), "choose 1 to 4096");
    }
    if (requested.threads > uapi::max_nr_queues) {
        bad_option("threads is " + std::to_string(requested.threads), "choose 1 to 4096, or 0");
    }
    for (const unsigned cpu : requested.cpus) {
        if (cpu >= cpu_set::cpus_max) {
            bad_option("cpus has " + std::to_string(cpu), "choose CPUs below 8192");
        }
    }
    if (const unsigned bytes = requested.io_desc_size;
        bytes != 0 && (bytes < sizeof(uapi::io_desc) || bytes > uapi::max_io_desc_size ||
                       bytes % alignof(uapi::io_desc) != 0)) {
        bad_option("io_desc_size is " + std::to_string(bytes),
                   "choose 0, or 24 to 256 in steps of 8");
    }
    constexpr std::chrono::hours longest{1};
    if (requested.spin.count() < 0 || requested.spin > longest ||
        requested.batch_delay.count() < 0 || requested.batch_delay > longest ||
        requested.sqpoll_idle.count() <= 0 || requested.sqpoll_idle > longest) {
        bad_option("a time that threads go by is out of range",
                   "choose spin and batch_delay of 0 to 1 h, sqpoll_idle of 1 ms to 1 h");
    }
    if (requested.max_io_bytes < page_size || requested.max_io_bytes > uapi::max_io_buf_bytes) {
        bad_option("max_io_bytes is " + std::to_string(requested.max_io_bytes),
                   "choose from the page size to 32 MiB");
    }
    if (!requested.command_deadline.positive() || !requested.stop_deadline.positive() ||
        !requested.recovery_deadline.positive()) {
        bad_option("a deadline is not positive", "choose at least 1 ms");
    }
}

}  // namespace ublk::inline v0
