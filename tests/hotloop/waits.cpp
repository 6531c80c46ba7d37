// SPDX-License-Identifier: MIT
#include <ublk/ublk.hpp>
#include <ublk/when_all.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace later {

// A disk whose every answer waits: for one operation, for a task that waits, and for two at once.
class waits {
public:
    static constexpr unsigned operations_in_flight = 2;

    explicit waits(std::uint64_t bytes) noexcept : size_{bytes} {}

    std::uint64_t size() const noexcept { return size_; }
    ublk::task read(ublk::io& with, const ublk::request& r, std::span<std::byte> out) {
        const int outcome = co_await with.read(file_, out, r.offset());
        co_return answer(outcome, out.size());
    }
    ublk::task write(ublk::io& with, const ublk::request& r, std::span<const std::byte> in) {
        co_return co_await ublk::when_all(half(with, in.first(in.size() / 2), r.offset()),
                                          half(with, in.subspan(in.size() / 2), r.offset()));
    }
    ublk::task read(ublk::io& with, const ublk::request& r, ublk::registered_buffer out) {
        const int outcome = co_await with.read(file_, out, r.offset());
        co_return answer(outcome, out.size());
    }
    ublk::task write(ublk::io& with, const ublk::request& r, ublk::registered_buffer in) {
        const int outcome = co_await with.write(file_, in, r.offset());
        co_return answer(outcome, in.size());
    }
    ublk::task flush(ublk::io& with, const ublk::request&) {
        const int outcome = co_await with.fdatasync(file_);
        co_return answer(outcome, 0);
    }

private:
    ublk::task half(ublk::io& with, std::span<const std::byte> in, std::uint64_t offset) {
        const int outcome = co_await with.write(file_, in, offset);
        co_return answer(outcome, in.size());
    }
    static ublk::result answer(int outcome, std::size_t bytes) noexcept {
        return static_cast<std::size_t>(outcome) == bytes ? ublk::ok : std::errc::io_error;
    }

    std::uint64_t size_;
    int file_ = 3;
};

}  // namespace later

// Such a program is there to be disassembled, and never run.
int main() {
    ublk::device<later::waits, ublk::per_cpu>{later::waits{1u << 20}}.start();
    ublk::device<later::waits, ublk::shared>{later::waits{1u << 20}}.start();
    ublk::device<later::waits, ublk::with<ublk::per_cpu, ublk::stats>>{later::waits{1u << 20}}
        .start();
}
