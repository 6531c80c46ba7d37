// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/completion_handle.hpp>
#include <ublk/coroutine/runtime_queue.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/payload.hpp>
#include <ublk/registered_file.hpp>
#include <ublk/task.hpp>

#include <fcntl.h>
#include <sys/uio.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace ublk::inline v0 {

/// The operations of a queue's own io_uring, for an asynchronous backend function; one `io` a tag.
/// Files (descriptors or `registered_file`) and memory stay valid until the operation has ended.
///
/// Range: an operation moves at most 0x7ffff000 bytes (2 GiB less a page), as read(2) does.
/// Returns: `co_await` gives what io_uring answers, a count of bytes or 0.
/// Errors: -errno; -ECANCELED once the device is stopped by force.
/// Thread: the queue's, where all that is awaited resumes.
class io : public detail::task_owner {
public:
    /// For the library.
    io(detail::runtime_queue& home, std::span<std::byte> memory) noexcept
        : task_owner{nullptr, home.ended_list()}, home_{&home}, frames_{memory} {}

    class awaited;

    /// Reads all of `out`, less only at the end of the file. After a short read or a signal it goes
    /// on, in multiples of `unit` bytes (what O_DIRECT needs).
    [[nodiscard]] awaited read(file_ref file, std::span<std::byte> out, std::uint64_t offset,
                               std::uint16_t unit = 1) noexcept;
    [[nodiscard]] awaited read(file_ref file, registered_buffer out, std::uint64_t offset,
                               std::uint16_t unit = 1) noexcept;
    /// Reads into several pieces; changes the vector.
    [[nodiscard]] awaited readv(file_ref file, std::span<iovec> out, std::uint64_t offset,
                                std::uint16_t unit = 1) noexcept;

    /// Writes all of `in`. `flags` are those of pwritev2(2), such as RWF_DSYNC.
    [[nodiscard]] awaited write(file_ref file, std::span<const std::byte> in, std::uint64_t offset,
                                int flags = 0, std::uint16_t unit = 1) noexcept;
    [[nodiscard]] awaited write(file_ref file, registered_buffer in, std::uint64_t offset,
                                int flags = 0, std::uint16_t unit = 1) noexcept;
    [[nodiscard]] awaited writev(file_ref file, std::span<iovec> in, std::uint64_t offset,
                                 int flags = 0, std::uint16_t unit = 1) noexcept;

    /// One read(2) or write(2), which may be short: for what has no offsets, such as a pipe.
    [[nodiscard]] awaited read_some(file_ref file, std::span<std::byte> out) noexcept;
    [[nodiscard]] awaited write_some(file_ref file, std::span<const std::byte> in) noexcept;

    /// fsync(2) and fdatasync(2).
    [[nodiscard]] awaited fsync(file_ref file) noexcept;
    [[nodiscard]] awaited fdatasync(file_ref file) noexcept;
    /// fallocate(2). Like fsync it runs on a worker of the kernel's, never on the queue's thread.
    [[nodiscard]] awaited fallocate(file_ref file, int mode, std::uint64_t offset,
                                    std::uint64_t bytes) noexcept;

    /// One recv(2) or send(2) on a socket; MSG_WAITALL in `flags` asks for all of it.
    [[nodiscard]] awaited recv(file_ref socket, std::span<std::byte> out, int flags = 0) noexcept;
    [[nodiscard]] awaited send(file_ref socket, std::span<const std::byte> in,
                               int flags = 0) noexcept;

    /// Waits until one of `events` (POLLIN, ...) holds. Returns those that do, as poll(2).
    [[nodiscard]] awaited poll(file_ref file, short events) noexcept;

    /// The clock of `sleep`: steady_clock, in the simulator the simulated time.
    [[nodiscard]] std::chrono::steady_clock::time_point now() const noexcept {
        return home_->now();
    }

    /// Waits for `time`, then gives 0.
    [[nodiscard]] auto sleep(std::chrono::nanoseconds time) noexcept;

    /// Calls `give(completion_handle)`, which passes the handle to a thread of the user's, and
    /// resumes once that thread has answered. A closure that captures more than references and
    /// plain values needs a name of its own.
    ///
    /// Returns: the `result` that was answered; EIO where the handle was dropped, or `give` threw.
    template <class Give>
    [[nodiscard]] auto offload(Give&& give) noexcept;

    /// Whether the device is being stopped by force.
    [[nodiscard]] bool cancelled() const noexcept { return home_->cancelling(); }

    /// For `task`.
    [[nodiscard]] detail::frame_memory& frames() noexcept { return frames_; }
    [[nodiscard]] detail::runtime_queue& home() noexcept { return *home_; }

private:
    using opcode = detail::opcode;

    struct prepared {
        detail::submission submitted;
        const registered_file* record;
    };

    [[nodiscard]] static prepared transfer(opcode code, file_ref file, std::uint64_t address,
                                           std::size_t length, std::uint64_t offset, int flags,
                                           std::uint16_t buffer = 0) noexcept {
        return {{.code = code,
                 .file = file.number,
                 .offset = offset,
                 .address = address,
                 .length = detail::clamp_transfer(length),
                 .op_flags = static_cast<std::uint32_t>(flags),
                 .buffer = buffer},
                file.record};
    }

    static constexpr std::uint16_t repeated = 1;  // after EINTR and EAGAIN, as transfers are

    detail::runtime_queue* home_;
    detail::frame_memory frames_;
};

/// An operation on its way to the kernel, to be awaited once.
class [[nodiscard]] io::awaited : private detail::operation {
public:
    /// `granularity` 0: the first answer is the end.
    awaited(detail::runtime_queue& home, const prepared& op, std::uint16_t granularity = 0,
            std::size_t bytes = 0) noexcept
        : home_{&home} {
        submitted = op.submitted;
        record = op.record;
        transfer_whole(detail::clamp_transfer(bytes), granularity);
    }

    [[nodiscard]] bool await_ready() noexcept {
        if (home_->cancelling()) [[unlikely]] {
            answer = -ECANCELED;
            return true;
        }
        return false;
    }
    void await_suspend(std::coroutine_handle<> task) noexcept {
        waiting = task;
        home_->submit(*this);
    }
    [[nodiscard]] int await_resume() const noexcept { return answer; }

    /// Where the operation finds what it works on, once that has a place.
    void point_at(const void* data) noexcept {
        submitted.address = reinterpret_cast<std::uintptr_t>(data);
    }

private:
    detail::runtime_queue* home_;
};

inline io::awaited io::read(file_ref file, std::span<std::byte> out, std::uint64_t offset,
                            std::uint16_t unit) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(out.data());
    return {*home_, transfer(opcode::read, file, address, out.size(), offset, 0), unit, out.size()};
}

inline io::awaited io::read(file_ref file, registered_buffer out, std::uint64_t offset,
                            std::uint16_t unit) noexcept {
    return {*home_,
            transfer(opcode::read_fixed, file, out.base(), out.size(), offset, 0, out.index()),
            unit, out.size()};
}

inline io::awaited io::write(file_ref file, std::span<const std::byte> in, std::uint64_t offset,
                             int flags, std::uint16_t unit) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(in.data());
    return {*home_, transfer(opcode::write, file, address, in.size(), offset, flags), unit,
            in.size()};
}

inline io::awaited io::write(file_ref file, registered_buffer in, std::uint64_t offset, int flags,
                             std::uint16_t unit) noexcept {
    return {*home_,
            transfer(opcode::write_fixed, file, in.base(), in.size(), offset, flags, in.index()),
            unit, in.size()};
}

inline io::awaited io::readv(file_ref file, std::span<iovec> out, std::uint64_t offset,
                             std::uint16_t unit) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(out.data());
    out = detail::clamp_transfer(out);
    return {*home_, transfer(opcode::readv, file, address, out.size(), offset, 0), unit,
            detail::bytes_of(out)};
}

inline io::awaited io::writev(file_ref file, std::span<iovec> in, std::uint64_t offset, int flags,
                              std::uint16_t unit) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(in.data());
    in = detail::clamp_transfer(in);
    return {*home_, transfer(opcode::writev, file, address, in.size(), offset, flags), unit,
            detail::bytes_of(in)};
}

inline io::awaited io::read_some(file_ref file, std::span<std::byte> out) noexcept {
    constexpr std::uint64_t here = ~std::uint64_t{0};  // the file's own position, if it has one
    const auto address = reinterpret_cast<std::uintptr_t>(out.data());
    return {*home_, transfer(opcode::read, file, address, out.size(), here, 0)};
}

inline io::awaited io::write_some(file_ref file, std::span<const std::byte> in) noexcept {
    constexpr std::uint64_t here = ~std::uint64_t{0};
    const auto address = reinterpret_cast<std::uintptr_t>(in.data());
    return {*home_, transfer(opcode::write, file, address, in.size(), here, 0)};
}

inline io::awaited io::fsync(file_ref file) noexcept {
    return {*home_, transfer(opcode::fsync, file, 0, 0, 0, 0), repeated};
}

inline io::awaited io::fdatasync(file_ref file) noexcept {
    constexpr int data_only = 1;  // IORING_FSYNC_DATASYNC
    return {*home_, transfer(opcode::fsync, file, 0, 0, 0, data_only), repeated};
}

// The length goes where other operations have their address, and the mode where they have theirs.
inline io::awaited io::fallocate(file_ref file, int mode, std::uint64_t offset,
                                 std::uint64_t bytes) noexcept {
    return {*home_,
            transfer(opcode::fallocate, file, bytes, static_cast<std::size_t>(mode), offset, 0),
            repeated};
}

inline io::awaited io::recv(file_ref socket, std::span<std::byte> out, int flags) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(out.data());
    return {*home_, transfer(opcode::recv, socket, address, out.size(), 0, flags)};
}

inline io::awaited io::send(file_ref socket, std::span<const std::byte> in, int flags) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(in.data());
    return {*home_, transfer(opcode::send, socket, address, in.size(), 0, flags)};
}

inline io::awaited io::poll(file_ref file, short events) noexcept {
    return {*home_, transfer(opcode::poll_add, file, 0, 0, 0, static_cast<std::uint16_t>(events))};
}

inline auto io::sleep(std::chrono::nanoseconds time) noexcept {
    // struct __kernel_timespec; it has to stay where it is until the kernel has read it.
    struct alignas(8) kernel_time {
        std::int64_t seconds;
        std::int64_t nanoseconds;
    };
    struct asleep {
        awaited timeout;
        kernel_time time;
        [[nodiscard]] bool await_ready() noexcept { return timeout.await_ready(); }
        void await_suspend(std::coroutine_handle<> task) noexcept {
            timeout.point_at(&time);
            timeout.await_suspend(task);
        }
        [[nodiscard]] int await_resume() const noexcept {
            const int outcome = timeout.await_resume();
            return outcome == -ETIME ? 0 : outcome;
        }
    };
    return asleep{{*home_, transfer(opcode::timeout, -1, 0, 1, 0, 0)},
                  {time.count() / 1'000'000'000, time.count() % 1'000'000'000}};
}

template <class Give>
auto io::offload(Give&& give) noexcept {
    static_assert(
        std::is_lvalue_reference_v<Give> || std::is_trivially_copyable_v<Give>,
        "ublk: give that closure a name first: auto give = [...](ublk::completion_handle) "
        "{...}; co_await io.offload(give);  (g++ 12 destroys such a temporary twice)");
    struct handed : detail::offloaded {
        io& from;
        std::remove_reference_t<Give>& give;  // whatever it is outlives the co_await
        handed(io& owner, std::remove_reference_t<Give>& function) noexcept
            : from{owner}, give{function} {}
        handed(const handed&) = delete;
        handed& operator=(const handed&) = delete;

        [[nodiscard]] bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> task) noexcept {
            waiting = task;
            detail::runtime_queue& home = *from.home_;
            home.sent();
            try {
                give(completion_handle{home, *this});  // dropped by an exception, it answers EIO
            } catch (...) {
                from.frames_.note_exception();
            }
        }
        [[nodiscard]] result await_resume() const noexcept { return answer; }
    };
    return handed{*this, give};
}

}  // namespace ublk::inline v0
