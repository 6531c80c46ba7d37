// SPDX-License-Identifier: MIT
#include <ublk/ublk.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

// Asynchronous backends that have what they must not have, one thing each, before they wait or
// after: hotloop.sh has to find it beside the resumptions that are as they should be.
namespace slow {

struct disk {
    std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept { return ublk::ok; }
};

struct store {
    virtual bool keep(std::span<const std::byte> bytes) noexcept = 0;
};

struct waits_and_calls_virtually : disk {
    store* where = nullptr;
    ublk::task write(ublk::io& with, const ublk::request&, std::span<const std::byte> in) {
        const int outcome = co_await with.write(3, in, 0);
        co_return outcome > 0 && where->keep(in) ? ublk::ok : std::errc::io_error;
    }
};

struct waits_and_calls_a_function : disk {
    std::shared_ptr<std::function<bool()>> where;
    ublk::task write(ublk::io& with, const ublk::request&, std::span<const std::byte> in) {
        const int outcome = co_await with.write(3, in, 0);
        co_return outcome > 0 && (*where)() ? ublk::ok : std::errc::io_error;
    }
};

struct waits_and_allocates : disk {
    std::vector<std::uint64_t> log;
    ublk::task write(ublk::io& with, const ublk::request& r, std::span<const std::byte> in) {
        const int outcome = co_await with.write(3, in, 0);
        log.push_back(r.offset());
        co_return outcome > 0 ? ublk::ok : std::errc::io_error;
    }
};

// Not in the coroutine, but before there is one.
struct waits_on_the_heap : disk {
    std::vector<std::uint64_t> log;
    ublk::task write(ublk::io& with, const ublk::request& r, std::span<const std::byte> in) {
        log.push_back(r.offset());
        return later(with, in);
    }
    ublk::task later(ublk::io& with, std::span<const std::byte> in) {
        const int outcome = co_await with.write(3, in, 0);
        co_return outcome > 0 ? ublk::ok : std::errc::io_error;
    }
};

struct waits_for_a_lock : disk {
    std::unique_ptr<std::mutex> mutex = std::make_unique<std::mutex>();
    std::uint64_t writes = 0;
    ublk::task write(ublk::io& with, const ublk::request&, std::span<const std::byte> in) {
        const int outcome = co_await with.write(3, in, 0);
        const std::lock_guard lock{*mutex};
        ++writes;
        co_return outcome > 0 ? ublk::ok : std::errc::io_error;
    }
};

template <class... Backends>
void serve_each() {
    (ublk::device<Backends, ublk::per_cpu>{Backends{}}.start(), ...);
    (ublk::device<Backends, ublk::shared>{Backends{}}.start(), ...);
}

}  // namespace slow

int main() {
    slow::serve_each<slow::waits_and_calls_virtually, slow::waits_and_calls_a_function,
                     slow::waits_and_allocates, slow::waits_on_the_heap, slow::waits_for_a_lock>();
}
