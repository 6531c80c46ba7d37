// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/registered_file.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ublk::inline v0::detail {

/// Which files a ring has registered, behind the one of the device. Of that ring's thread.
class file_table {
public:
    static constexpr std::size_t files_max = 255;

    /// Files beyond the room of the table, and those that are not open, are used by their
    /// descriptors. May throw std::bad_alloc.
    void assign(std::span<const registered_file* const> files) {
        entries_.clear();
        for (const registered_file* const each : files) {
            if (entries_.size() < files_max) {
                entries_.push_back({each, each->version(), each->get() >= 0});
            }
        }
    }

    /// As the ring is to register them: first `device`.
    [[nodiscard]] std::vector<int> numbers(int device) const {
        std::vector<int> all{device};
        for (const entry& each : entries_) {
            all.push_back(each.registered ? each.file->get() : -1);
        }
        return all;
    }

    /// The place of that file in the ring's table; 0 where it has none. `update(place, descriptor)`
    /// registers another file there and returns whether that worked.
    template <class Update>
    [[nodiscard, gnu::always_inline]] unsigned place(const registered_file& file,
                                                     Update update) noexcept {
        for (entry& each : entries_) {
            if (each.file == &file) {
                const auto at = static_cast<unsigned>(&each - entries_.data()) + 1;
                if (each.version != file.version()) [[unlikely]] {
                    renew(each, at, update);
                }
                return each.registered ? at : 0;
            }
        }
        return 0;
    }

private:
    struct entry {
        const registered_file* file;
        std::uint32_t version;
        bool registered;
    };

    template <class Update>
    [[gnu::cold, gnu::noinline]] static void renew(entry& slot, unsigned at,
                                                   Update update) noexcept {
        slot.version = slot.file->version();  // before: a file that comes meanwhile is seen then
        slot.registered = update(at, slot.file->get());
    }

    std::vector<entry> entries_;
};

}  // namespace ublk::inline v0::detail
