// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/error.hpp>
#include <ublk/uapi.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

namespace ublk::inline v0::sim {

/// What a server finds in memory that it must not rely on.
inline constexpr std::byte stale{0xdb};

/// Where an open /dev/ublkcN with USER_COPY has the bytes of requests: a sparse file, so that the
/// server's pread and pwrite are real ones. The driver would copy at each of them; here a write's
/// bytes are there beforehand, and a read's are fetched afterwards.
class copy_window {
public:
    copy_window() : file_{::memfd_create("ublk-sim-requests", MFD_CLOEXEC)} {
        if (!file_) {
            fail(errno, "making a simulated device", std::nullopt);
        }
    }

    [[nodiscard]] int file() const noexcept { return file_.get(); }

    /// A request goes to the server: with what its client has there, or with what nobody is to see.
    void open(std::uint16_t queue, std::uint16_t tag, std::span<const std::byte> bytes,
              bool as_it_is) {
        scratch_.assign(bytes.size(), stale);
        const std::byte* const from = as_it_is ? bytes.data() : scratch_.data();
        std::size_t done = 0;
        while (done < bytes.size()) {
            done += moved(
                ::pwrite(file_.get(), from + done, bytes.size() - done, at(queue, tag, done)));
        }
    }

    /// The server has answered: what is there now. The file forgets it.
    [[nodiscard]] std::span<const std::byte> close(std::uint16_t queue, std::uint16_t tag,
                                                   std::size_t bytes) {
        scratch_.assign(bytes, std::byte{0});
        std::size_t done = 0;
        while (done < bytes) {
            done += moved(
                ::pread(file_.get(), scratch_.data() + done, bytes - done, at(queue, tag, done)));
        }
        (void)::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          at(queue, tag, 0), static_cast<off_t>(bytes));
        return scratch_;
    }

    /// Whether a word of those bytes is as `open` left it for a read.
    [[nodiscard]] static bool has_stale_word(std::span<const std::byte> bytes) noexcept {
        std::byte word[8];
        std::fill(std::begin(word), std::end(word), stale);
        for (std::size_t place = 0; place + sizeof word <= bytes.size(); place += sizeof word) {
            if (std::memcmp(bytes.data() + place, word, sizeof word) == 0) {
                return true;
            }
        }
        return false;
    }

private:
    [[nodiscard]] static off_t at(std::uint16_t queue, std::uint16_t tag, std::size_t offset) {
        return static_cast<off_t>(uapi::user_copy_position(queue, tag, offset));
    }

    [[nodiscard]] static std::size_t moved(ssize_t some) {
        if (some <= 0) {
            fail(some < 0 ? errno : EIO, "moving the bytes of a simulated request", std::nullopt);
        }
        return static_cast<std::size_t>(some);
    }

    fd file_;
    std::vector<std::byte> scratch_;
};

}  // namespace ublk::inline v0::sim
