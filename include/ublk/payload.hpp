// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/result.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>

/// Where the bytes of a read or write are, beside a plain span. The last parameter of a backend's
/// `read` and `write` says which data paths it can take.
namespace ublk::inline v0 {

/// The client's bytes behind a file position. They are copied once, to or from the backend's own
/// memory, by one system call each (UBLK_F_USER_COPY).
///
/// Thread: any, while the request is not answered.
/// Kernel: 6.5.
class user_copy {
public:
    /// `position` is that of the request's first byte in `file`, an open /dev/ublkcN.
    constexpr user_copy(int file, std::uint64_t position, std::size_t bytes) noexcept
        : position_{position}, bytes_{bytes}, file_{file} {}

    [[nodiscard]] constexpr std::size_t size() const noexcept { return bytes_; }

    /// For a write: copies the client's bytes from `offset` on into all of `out`.
    ///
    /// Range: `offset + out.size()` at most `size()`.
    /// Errors: EIO where the request is no more; those of pread(2).
    [[nodiscard]] result get(std::size_t offset, std::span<std::byte> out) const noexcept {
        const ssize_t some = ::pread(file_, out.data(), out.size(), at(offset));
        return some == static_cast<ssize_t>(out.size())
                   ? result{ok}
                   : get_rest(file_, at(offset), out.data(), out.size(), some);
    }

    /// For a read: copies all of `in` to the client, from `offset` on. Range and errors as of
    /// `get`.
    [[nodiscard]] result put(std::size_t offset, std::span<const std::byte> in) const noexcept {
        const ssize_t some = ::pwrite(file_, in.data(), in.size(), at(offset));
        return some == static_cast<ssize_t>(in.size())
                   ? result{ok}
                   : put_rest(file_, at(offset), in.data(), in.size(), some);
    }

    /// A part of it, as another.
    [[nodiscard]] constexpr user_copy subspan(std::size_t offset,
                                              std::size_t bytes) const noexcept {
        return {file_, position_ + offset, bytes};
    }

private:
    [[nodiscard]] off_t at(std::size_t offset) const noexcept {
        return static_cast<off_t>(position_ + offset);
    }

    // After a call that has not copied all. A short count is no end: the driver copies page by page
    // and stops where one is not there yet.
    [[nodiscard, gnu::cold, gnu::noinline]] static result
    get_rest(int file, off_t position, std::byte* to, std::size_t bytes, ssize_t some) noexcept {
        return rest(bytes, some, [&](std::size_t done) {
            return ::pread(file, to + done, bytes - done, position + static_cast<off_t>(done));
        });
    }
    [[nodiscard, gnu::cold, gnu::noinline]] static result put_rest(int file, off_t position,
                                                                   const std::byte* from,
                                                                   std::size_t bytes,
                                                                   ssize_t some) noexcept {
        return rest(bytes, some, [&](std::size_t done) {
            return ::pwrite(file, from + done, bytes - done, position + static_cast<off_t>(done));
        });
    }

    template <class Copy>
    [[nodiscard]] static result rest(std::size_t bytes, ssize_t some, Copy copy) noexcept {
        for (std::size_t done = 0; done < bytes; some = copy(done)) {
            if (some > 0) {
                done += static_cast<std::size_t>(some);
                if (done == bytes) {
                    return ok;
                }
            } else if (some == 0 || errno != EINTR) {
                return some == 0 ? result{std::errc::io_error} : result::from_errno();
            }
        }
        return ok;
    }

    std::uint64_t position_;
    std::size_t bytes_;
    int file_;
};

/// A buffer in the ring's table of registered buffers: the client's own pages (zero copy), or a tag
/// buffer that is pinned for good. Its bytes can only be reached by operations of the queue's ring
/// (`io::read`, `io::write`); the client's pages only in the request's direction.
class registered_buffer {
public:
    constexpr registered_buffer(std::uint16_t index, std::uint64_t base, std::size_t bytes) noexcept
        : base_{base}, bytes_{bytes}, index_{index} {}

    [[nodiscard]] constexpr std::uint16_t index() const noexcept { return index_; }

    /// What io_uring takes for the address of its first byte; 0 for a client's pages.
    [[nodiscard]] constexpr std::uint64_t base() const noexcept { return base_; }

    [[nodiscard]] constexpr std::size_t size() const noexcept { return bytes_; }

    /// A part of it, as another.
    [[nodiscard]] constexpr registered_buffer subspan(std::size_t offset,
                                                      std::size_t bytes) const noexcept {
        return {index_, base_ + offset, bytes};
    }

private:
    std::uint64_t base_;
    std::size_t bytes_;
    std::uint16_t index_;
};

/// The client's pages, not registered yet. The backend registers them with a ring of its own
/// (`page_ring`), and unregisters them before it answers the request. The request is complete once
/// the kernel has released them, which may be left to the ring's thread: a ring with DEFER_TASKRUN
/// or COOP_TASKRUN works only where that thread always waits in it.
///
/// Thread: any, while the request is not answered.
/// Kernel: 6.17.
class client_pages {
public:
    /// `file` is an open /dev/ublkcN.
    constexpr client_pages(int file, std::uint16_t queue, std::uint16_t tag, std::uint64_t base,
                           std::size_t bytes) noexcept
        : base_{base}, bytes_{bytes}, file_{file}, queue_{queue}, tag_{tag} {}

    [[nodiscard]] constexpr int file() const noexcept { return file_; }
    [[nodiscard]] constexpr std::uint16_t queue() const noexcept { return queue_; }
    [[nodiscard]] constexpr std::uint16_t tag() const noexcept { return tag_; }

    /// First byte among those of the request.
    [[nodiscard]] constexpr std::uint64_t base() const noexcept { return base_; }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return bytes_; }

    /// A part of them, as another.
    [[nodiscard]] constexpr client_pages subspan(std::size_t offset,
                                                 std::size_t bytes) const noexcept {
        return {file_, queue_, tag_, base_ + offset, bytes};
    }

private:
    std::uint64_t base_;
    std::size_t bytes_;
    int file_;
    std::uint16_t queue_;
    std::uint16_t tag_;
};

}  // namespace ublk::inline v0
