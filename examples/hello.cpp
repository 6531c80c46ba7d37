// SPDX-License-Identifier: MIT
// A whole disk: 64 MiB of memory, served until Ctrl-C.
#include <ublk/ublk.hpp>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

struct ram {
    std::vector<std::byte> bytes = std::vector<std::byte>(64 << 20);

    std::uint64_t size() const noexcept { return bytes.size(); }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) noexcept {
        std::memcpy(out.data(), &bytes[r.offset()], out.size());
        return ublk::ok;
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) noexcept {
        std::memcpy(&bytes[r.offset()], in.data(), in.size());
        return ublk::ok;
    }
};

int main() try {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int each : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
        sigaddset(&signals, each);
    }
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before start, so that its threads inherit it

    ublk::device<ram> disk{ram{}};
    disk.start();  // /dev/ublkbN is usable from here on
    std::puts(disk.path().c_str());
    std::fflush(stdout);

    int caught = 0;
    sigwait(&signals, &caught);
    disk.stop();  // writes dirty pages back into `ram`, then removes the device
} catch (const std::exception& failed) {
    std::fprintf(stderr, "%s\n", failed.what());
    return 1;
}
