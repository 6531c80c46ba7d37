// SPDX-License-Identifier: MIT

// Disks that outlive their servers: who may take over what is left, and how disks end.

#include "backends.hpp"
#include "client.hpp"
#include "recovery.hpp"

#include <ublk/control.hpp>
#include <ublk/ublk.hpp>

namespace ublk_test {
namespace recovery_test {
namespace {

using ublk::data_path;
using ublk::recovery_kind;
using enum ublk::recovery_kind;

constexpr std::uint64_t mib = 1024 * 1024;

class recovery : public recovery_tests {};

/// Of which the driver may ask again what the last server had.
class idempotent_ram : public ram {
public:
    using ram::ram;
    explicit idempotent_ram(const ram& same) : ram{same} {}
    static constexpr bool idempotent = true;
};

TEST_F(recovery, a_stop_writes_back_what_clients_left_in_the_page_cache) {
    for (const recovery_kind kind : {none, fail_in_flight, reissue}) {
        const ram backend{1 * mib};
        ublk::options requested = small();
        requested.recovery = kind;
        auto d = make_disk(idempotent_ram{backend}, requested);
        d.start();
        const int file = ::open(d->path().c_str(), O_RDWR | O_CLOEXEC);
        ASSERT_GE(file, 0);
        const bytes content = pattern(65536, 65536, 70);
        ASSERT_EQ(::pwrite(file, content.data(), content.size(), 65536), 65536);
        d.stop();  // the last close would write it back as well
        ::close(file);
        EXPECT_EQ(difference(backend.store().subspan(65536, 65536), content), "")
            << to_string(kind);
    }
}

TEST_F(recovery, control_stops_such_a_disk_without_a_loss_too) {
    const ram backend{1 * mib};
    ublk::options requested = small();
    requested.recovery = fail_in_flight;
    auto d = start_disk(backend, requested);
    const int file = ::open(d->path().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(file, 0);
    const bytes content = pattern(0, 65536, 71);
    ASSERT_EQ(::pwrite(file, content.data(), content.size(), 0), 65536);
    bounded("control.stop", [id = d->id()] { ublk::control{long_patience}.stop(id); });
    ::close(file);
    EXPECT_EQ(difference(backend.store().subspan(0, 65536), content), "");
}

TEST_F(recovery, is_refused_where_it_would_do_harm) {
    const scratch disk{"refused", 1 * mib};
    const ublk::options requested = recoverable(data_path::copy, fail_in_flight);
    const auto serving = server(disk.path(), requested);
    const std::uint32_t id = number_of(serving->hear(long_patience));
    ublk::options brief = small();
    auto other = make_disk(ram{2 * mib}, brief);
    const auto refusal = [&] {
        return error_of(
            [&] { bounded("recover()", [mine = other.shared(), id] { mine->recover(id); }); });
    };
    const ublk::error live = refusal();
    EXPECT_EQ(live.errno_value(), EBUSY) << live.what();
    EXPECT_NE(std::string{live.what()}.find("process " + std::to_string(serving->pid())),
              std::string::npos)
        << live.what();
    kill(*serving);
    const ublk::error size = refusal();
    EXPECT_EQ(size.errno_value(), EINVAL) << size.what();
    EXPECT_NE(std::string{size.what()}.find("1048576"), std::string::npos) << size.what();

    const auto next = server(disk.path(), requested, id);
    EXPECT_EQ(next->hear(long_patience), std::to_string(id));
    kill(*next);
    bounded("stop", [id] {
        ublk::control control{long_patience};
        while (control.info(id).state == ublk::uapi::dev_state::live) {
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        }
        control.stop(id);
    });
    const ublk::error dead = refusal();
    EXPECT_EQ(dead.errno_value(), ENODEV) << dead.what();
    bounded("del", [id] { (void)ublk::control{long_patience}.del(id); });
    EXPECT_EQ(refusal().errno_value(), ENODEV);
}

TEST_F(recovery, takes_a_device_that_was_quiesced) {
    if (running_kernel() < ublk::kernel_version{6, 16}) {
        const ublk::error old = error_of([] { ublk::control{}.quiesce(0, milliseconds{100}); });
        EXPECT_TRUE(old.errno_value() == EOPNOTSUPP || old.errno_value() == ENODEV) << old.what();
        return;
    }
    const scratch disk{"quiesced", 1 * mib};
    const ublk::options requested = recoverable(data_path::copy, fail_in_flight);
    const auto serving = server(disk.path(), requested);
    const std::uint32_t id = number_of(serving->hear(long_patience));
    bounded("quiesce", [id] { ublk::control{long_patience}.quiesce(id, milliseconds{5000}); });
    // Its threads leave by themselves, and the driver sees the end of the server.
    bounded("waiting for the driver", [id] {
        ublk::control control{long_patience};
        while (control.info(id).state != ublk::uapi::dev_state::quiesced) {
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        }
    });
    kill(*serving);
    const auto next = server(disk.path(), requested, id);
    EXPECT_EQ(next->hear(long_patience), std::to_string(id));
    stop(*next);
}

TEST_F(recovery, a_size_can_be_changed_while_a_disk_is_used) {
    auto d = start_disk(ram{2 * mib}, small());
    const auto resize = [id = d->id()](std::uint64_t to) {
        bounded("resize", [id, to] { ublk::control{long_patience}.resize(id, to); });
    };
    EXPECT_EQ(error_of([&] { resize(mib + 1); }).errno_value(), EINVAL);
    if (running_kernel() < ublk::kernel_version{6, 16}) {
        const ublk::error old = error_of([&] { resize(mib); });
        EXPECT_EQ(old.errno_value(), EOPNOTSUPP) << old.what();
        EXPECT_NE(std::string{old.remedy()}.find("6.16"), std::string::npos) << old.what();
        return;
    }
    const std::string size = "/sys/block/" + d->path().substr(5) + "/size";
    resize(mib);
    EXPECT_EQ(read_line(size), "2048");
    resize(2 * mib);
    EXPECT_EQ(read_line(size), "4096");
}

TEST_F(recovery, a_disk_in_use_is_not_stopped_by_a_try) {
    auto d = start_disk(ram{1 * mib}, small());
    const auto try_stop = [id = d->id()] {
        return bounded("try_stop", [id] { return ublk::control{long_patience}.try_stop(id); });
    };
    const bool counts = running_kernel() >= ublk::kernel_version{7, 0};
    const int file = ::open(d->path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC);
    ASSERT_GE(file, 0);
    EXPECT_FALSE(try_stop().stopped);
    ::close(file);
    const int plain = ::open(d->path().c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(plain, 0);
    if (counts) {
        EXPECT_FALSE(try_stop().stopped);
    }
    ::close(plain);
    ublk::control::try_stop_result last;
    EXPECT_TRUE(eventually([&] { return (last = try_stop()).stopped; })) << "udev may have it open";
    EXPECT_EQ(last.all_openers_counted, counts);
    EXPECT_EQ(::access(d->path().c_str(), F_OK), -1);
}

}  // namespace
}  // namespace recovery_test
}  // namespace ublk_test
