// SPDX-License-Identifier: MIT

// The driver's own batches, on kernels that have them and on those that do not: the same program
// runs on both, and says what it got.

#include "client.hpp"
#include "fio.hpp"
#include "shell.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace batch_io_test {
namespace {

using ublk::data_path;
using ublk_test::succeeded;

constexpr std::uint64_t disk_size = std::uint64_t{16} << 20;  // what a RAM disk of brd's has

[[nodiscard]] std::uint64_t known_features() {
    return ublk_test::open_control().get_features();
}

[[nodiscard]] bool has_batches() {
    return (known_features() & ublk::uapi::feature::batch_io) != 0;
}

std::string outcome;

ublk::options asking_for(data_path path) {
    ublk::options requested = ublk_test::patient();
    requested.queues = 2;
    requested.depth = 48;  // no power of two
    requested.path = path;
    requested.on_event = [](const ublk::event& e) { outcome += to_string(e) + "\n"; };
    return requested;
}

struct cell {
    data_path path;
    bool shared;

    friend std::ostream& operator<<(std::ostream& out, const cell& c) {
        return out << ublk::to_string(c.path) << (c.shared ? "_shared" : "_per_cpu");
    }
};

class batch_io : public ublk_test::on_a_clean_system, public testing::WithParamInterface<cell> {
protected:
    template <class Backend, class Use>
    static void serve_with(const std::shared_ptr<Backend>& backend, const Use& use) {
        if (GetParam().shared) {
            run(ublk::device<Backend, ublk::shared, ublk::batch_io>{backend,
                                                                    asking_for(GetParam().path)},
                use);
        } else {
            run(ublk::device<Backend, ublk::per_cpu, ublk::batch_io>{backend,
                                                                     asking_for(GetParam().path)},
                use);
        }
    }

    /// A RAM disk by the paths that it has, else a file on a block device of the guest's.
    template <class Use>
    static void serve(const Use& use) {
        const data_path path = GetParam().path;
        if (path == data_path::copy || path == data_path::user_copy) {
            serve_with(std::make_shared<ublk::backends::memory>(disk_size), use);
        } else {
            serve_with(std::make_shared<ublk::backends::file>(
                           "/dev/ram1", ublk::backends::file_options{.direct = true}),
                       use);
        }
    }

private:
    template <class Device, class Use>
    static void run(Device&& disk, const Use& use) {
        outcome.clear();
        disk.start();
        EXPECT_EQ(disk.info().path, GetParam().path);
        EXPECT_EQ(disk.info().batch_io, has_batches());
        EXPECT_EQ(outcome.find("the driver has no batches") == std::string::npos, has_batches())
            << outcome;
        use(disk);
        disk.stop();
    }
};

TEST_P(batch_io, carry_what_fio_writes_from_each_cpu) {
    if ((ublk::features_of(GetParam().path) & ~known_features()) != 0) {
        GTEST_SKIP() << "this kernel has no " << ublk::to_string(GetParam().path);
    }
    serve([](auto& disk) {
        ublk_test::without_scheduler(disk);
        const ublk_test::fio_run done = ublk_test::fio(ublk_test::both_cpus(disk.path()));
        EXPECT_TRUE(succeeded(done.program));
        EXPECT_FALSE(done.jobs.empty());
        for (const ublk_test::job& each : done.jobs) {
            EXPECT_EQ(each.error, 0) << each.name;
            EXPECT_GT(each.read, each.written) << each.name << ": what is written is read back";
        }
    });
}

std::vector<cell> cells() {
    std::vector<cell> all;
    for (const data_path path : {data_path::copy, data_path::user_copy, data_path::fixed_copy,
                                 data_path::zero_copy, data_path::auto_buffer}) {
        all.push_back({path, false});
    }
    all.push_back({data_path::copy, true});
    all.push_back({data_path::auto_buffer, true});
    return all;
}

INSTANTIATE_TEST_SUITE_P(all, batch_io, testing::ValuesIn(cells()),
                         testing::PrintToStringParamName());

using batch_io_choice = ublk_test::on_a_clean_system;

TEST_F(batch_io_choice, do_not_ask_where_a_write_belongs) {
    ublk::options requested = ublk_test::patient();
    requested.depth = 8;
    ublk::device<ublk::backends::memory, ublk::per_cpu, ublk::batch_io> disk{
        ublk::backends::memory{disk_size}, requested};
    disk.start();
    EXPECT_EQ(disk.info().path, has_batches() ? data_path::user_copy : data_path::get_data);
    if (has_batches()) {
        EXPECT_NE(disk.info().path_reason.find("not get_data: the driver's batches"),
                  std::string::npos)
            << disk.info().path_reason;
    }
    disk.stop();
}

}  // namespace
}  // namespace batch_io_test
