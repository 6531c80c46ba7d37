// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/operation.hpp>
#include <ublk/sim/seam.hpp>
#include <ublk/uapi.hpp>

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// What the rings of a world saw, in order: which requests were handed to servers and answered, and
/// which operations began and ended meanwhile. For laws about the one and the other.
class journal {
public:
    enum class kind : std::uint8_t { handed, committed, began, ended };

    /// A file, by whatever descriptor.
    using file_id = std::pair<std::uint64_t, std::uint64_t>;

    struct entry {
        kind type = kind::handed;
        std::uint64_t number = 0;  ///< of the request, or of the operation
        int result = 0;            ///< of what ended

        // Of a request.
        uapi::op op = uapi::op::read;
        std::uint32_t flags = 0;
        std::uint64_t sector = 0;
        std::uint32_t sectors = 0;

        // Of an operation.
        submission sqe{};
        file_id file{};
        bool durable = false;       ///< a write that is, once it has ended
        std::uint64_t request = 0;  ///< whose buffer it works on; 0 where that is not known
    };

    [[nodiscard]] std::uint64_t next_number() noexcept { return ++numbers_; }
    void add(entry next) { entries_.push_back(std::move(next)); }

    [[nodiscard]] const std::vector<entry>& entries() const noexcept { return entries_; }

    /// Of an open file; {} where there is none.
    [[nodiscard]] static file_id id_of(int file) noexcept {
        struct stat found {};
        return ::fstat(file, &found) == 0 ? file_id{found.st_dev, found.st_ino} : file_id{};
    }

private:
    std::vector<entry> entries_;
    std::uint64_t numbers_ = 0;
};

}  // namespace ublk::inline v0::sim
