// SPDX-License-Identifier: MIT
#pragma once

// What is done to a kernel, as plain data: a script is a row of steps, each with one outcome. The
// player (player.hpp) plays it on any kernel, and two kernels are the same as far as scripts tell
// when their transcripts are.

#include <ublk/kernel_version.hpp>
#include <ublk/uapi.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk_test::differential {

using std::chrono::milliseconds;

/// Longer than anything takes that comes to its end, even under emulation on a busy machine.
inline constexpr milliseconds patience{40000};

/// A client's part.
enum class deed {
    open,         ///< past the page cache
    open_cached,  ///< through it: what is written there stays until the disk stops
    close,
    read,
    write,
    durable_write,
    flush,
    discard,
    zero_out,
    punch_hole
};

[[nodiscard]] constexpr bool opens(deed kind) noexcept {
    return kind == deed::open || kind == deed::open_cached;
}

struct client_action {
    deed kind = deed::open;
    unsigned file = 0;  ///< the script's number of it
    std::uint64_t sector = 0;
    std::uint32_t sectors = 0;
    std::uint8_t fill = 0;  ///< what is written
    int queue = -1;         ///< from a CPU of that queue; -1: from any
    int cpu = -1;           ///< for the player
    bool writable = true;
};

/// Which process a command names.
enum class process { none, self, another };

/// Which path a command carries in front of its payload.
enum class path_kind { none, own, literal };

/// One control command, nothing of it right by itself. What a script cannot know (the id of a
/// device, a pid) is put in by the player.
struct command {
    std::uint32_t op = 0;
    int device = -1;       ///< the script's number of it; -1: `id` as it is
    std::uint32_t id = 0;  ///< ADD_DEV: the id asked for
    std::uint16_t queue_id = 0;
    std::uint16_t len = 0;
    std::uint64_t data = 0;
    process pid = process::none;  ///< else it is the data
    std::vector<std::byte> payload;
    bool other_id_inside = false;  ///< ADD_DEV: the payload names another id than the header
    path_kind path = path_kind::none;
    std::string literal;
    std::optional<std::uint16_t> path_len;  ///< in place of the path's true one
    int again_while = 0;  ///< an errno: asked again and again as long as that is the answer
};

enum class verb {
    call,         ///< a control command; still pending at the limit, it is cancelled
    begin,        ///< a control command under a number
    finish,       ///< its answer, or that it is pending
    cancel,       ///< asks the kernel to give up on it
    open,         ///< the channel of a device
    close,        ///< the same, and lets the kernel do what it does afterwards
    shut,         ///< the channel alone; ports and maps of it stay
    map,          ///< descriptors
    unmap,        ///< those of a queue
    port,         ///< a port in a thread; the thread is there from its first use on
    close_port,   ///< and nothing else
    fetch,        ///< a tag
    commit,       ///< a request by its number, or a tag
    expect,       ///< the next event of a thread
    drain,        ///< so many events, whatever their order
    serve,        ///< the thread answers whatever comes, by itself
    hold,         ///< and no longer
    die,          ///< all ports and maps of a device and its channel, at once
    client,       ///< something of a client under a number
    await,        ///< its end
    await_state,  ///< GET_DEV_INFO until the device is in that state
    await_gone,   ///< GET_DEV_INFO until there is no such device
    pause,        ///< what the kernel does in the background has come to its end
};

struct step {
    verb kind = verb::call;
    std::string text;  ///< for the transcript
    std::string must;  ///< how the outcome begins according to the driver's source, if it is known
    int device = 0;
    unsigned thread = 0;
    unsigned number = 0;  ///< of a begun command, a client's deed or a request, from 1 on
    std::uint16_t queue = 0;
    std::uint16_t tag = 0;
    int result = 0;
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
    std::uint8_t fill = 0;
    bool buffer = true;
    milliseconds limit = patience;
    command requested;
    client_action action;
};

struct script {
    std::string name;
    std::vector<step> steps;
    ublk::kernel_version since{6, 8};
    ublk::kernel_version until{99, 0};  ///< the first that is spared it
};

/// One line a step, then what the cleaning up has to say.
using transcript = std::vector<std::string>;

template <class Plain>
[[nodiscard]] std::vector<std::byte> bytes_of(const Plain& value) {
    static_assert(std::is_trivially_copyable_v<Plain>);
    std::vector<std::byte> bytes(sizeof value);
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

/// An errno as its name, anything else as a number.
[[nodiscard]] inline std::string name_of(int answer) {
    if (answer >= 0) {
        return std::to_string(answer);
    }
    const char* const name = ::strerrorname_np(-answer);
    return name != nullptr ? name : std::to_string(answer);
}

/// The commands as the driver calls them.
[[nodiscard]] inline std::string command_text(std::uint32_t op) {
    static constexpr std::pair<std::uint32_t, const char*> names[] = {
        {ublk::uapi::ctrl::get_queue_affinity, "GET_QUEUE_AFFINITY"},
        {ublk::uapi::ctrl::get_dev_info, "GET_DEV_INFO"},
        {ublk::uapi::ctrl::add_dev, "ADD_DEV"},
        {ublk::uapi::ctrl::del_dev, "DEL_DEV"},
        {ublk::uapi::ctrl::start_dev, "START_DEV"},
        {ublk::uapi::ctrl::stop_dev, "STOP_DEV"},
        {ublk::uapi::ctrl::set_params, "SET_PARAMS"},
        {ublk::uapi::ctrl::get_params, "GET_PARAMS"},
        {ublk::uapi::ctrl::start_user_recovery, "START_USER_RECOVERY"},
        {ublk::uapi::ctrl::end_user_recovery, "END_USER_RECOVERY"},
        {ublk::uapi::ctrl::get_dev_info2, "GET_DEV_INFO2"},
        {ublk::uapi::ctrl::get_features, "GET_FEATURES"},
        {ublk::uapi::ctrl::del_dev_async, "DEL_DEV_ASYNC"},
        {ublk::uapi::ctrl::update_size, "UPDATE_SIZE"},
        {ublk::uapi::ctrl::quiesce_dev, "QUIESCE_DEV"},
        {ublk::uapi::ctrl::try_stop_dev, "TRY_STOP_DEV"},
        {ublk::uapi::ctrl::reg_buf, "REG_BUF"},
        {ublk::uapi::ctrl::unreg_buf, "UNREG_BUF"},
    };
    for (const auto& [each, name] : names) {
        if (each == op) {
            return name;
        }
    }
    char number[16];
    (void)std::snprintf(number, sizeof number, "0x%x", op);
    return number;
}

}  // namespace ublk_test::differential
