// SPDX-License-Identifier: MIT

// A file system is the client that counts: whole trees of files go in, come back the same after all
// caches are gone, and outlive the device that served them.

#include "client.hpp"
#include "shell.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace ext4_test {
namespace {

using namespace std::chrono_literals;
using ublk_test::eventually;
using ublk_test::sh;
using ublk_test::succeeded;

constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;

/// A disk of memory that outlives the device which serves it: copies show the same disk.
class kept {
public:
    explicit kept(std::uint64_t bytes, std::uint32_t logical_block_size = 512)
        : inside_{std::make_shared<inside>(bytes, logical_block_size)} {}

    std::uint64_t size() const noexcept { return inside_->store.size(); }
    std::uint32_t logical_block_size() const noexcept {
        return inside_->store.logical_block_size();
    }
    std::uint32_t physical_block_size() const noexcept { return 4096; }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) noexcept {
        return inside_->store.read(r, out);
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) noexcept {
        return inside_->store.write(r, in);
    }
    ublk::result flush(const ublk::request&) noexcept {
        ++inside_->flushes;
        return ublk::ok;
    }
    ublk::result discard(const ublk::request& r) noexcept {
        inside_->discarded += r.length();
        return inside_->store.discard(r);
    }
    ublk::result write_zeroes(const ublk::request& r) noexcept {
        return inside_->store.write_zeroes(r);
    }

    [[nodiscard]] unsigned flushes() const noexcept { return inside_->flushes; }
    [[nodiscard]] std::uint64_t discarded() const noexcept { return inside_->discarded; }

private:
    struct inside {
        inside(std::uint64_t bytes, std::uint32_t logical_block_size)
            : store{bytes, {logical_block_size, false}} {}
        ublk::backends::memory store;
        std::atomic<unsigned> flushes = 0;
        std::atomic<std::uint64_t> discarded = 0;
    };
    std::shared_ptr<inside> inside_;
};

ublk::options some_tags() {
    ublk::options requested = ublk_test::patient();
    requested.depth = 32;
    return requested;
}

using disk_of_kept = ublk::device<kept>;

/// A mounted file system; nothing stays mounted when a test fails.
class mounted {
public:
    mounted(const std::string& device, const std::string& where, const char* options = "")
        : where_{where} {
        std::filesystem::create_directories(where);
        code_ = ublk_test::bounded("mount", [device, where, options = std::string{options}] {
            return ::mount(device.c_str(), where.c_str(), "ext4", 0, options.c_str()) == 0 ? 0
                                                                                           : errno;
        });
    }
    mounted(const mounted&) = delete;
    mounted& operator=(const mounted&) = delete;
    ~mounted() {
        if (code_ == 0) {
            ::umount2(where_.c_str(), MNT_DETACH);
        }
    }

    /// 0, or why it is not mounted.
    [[nodiscard]] int code() const noexcept { return code_; }
    [[nodiscard]] const std::string& where() const noexcept { return where_; }

    [[nodiscard]] int unmount() {
        const int code = ublk_test::bounded(
            "umount", [where = where_] { return ::umount2(where.c_str(), 0) == 0 ? 0 : errno; });
        code_ = code == 0 ? EINVAL : code_;
        return code;
    }

private:
    std::string where_;
    int code_;
};

constexpr const char* mount_point = "/tmp/ublk-ext4";

testing::AssertionResult make_file_system(const std::string& device) {
    return succeeded(sh(
        "mkfs.ext4 -q -F -b 4096 -J size=4 -E lazy_itable_init=0,lazy_journal_init=0 " + device));
}

/// The checker must find nothing to say.
testing::AssertionResult clean(const std::string& device) {
    return succeeded(sh("e2fsck -f -n " + device));
}

/// What is true of a tree of files: a line for each with its checksum, size and kind.
std::string inventory(const std::string& directory) {
    const ublk_test::finished done =
        sh("cd " + directory +
           " && find . -type f | sort | xargs sha256sum && find . -type l | sort | xargs ls -l |"
           " sed 's/.* \\.\\//.\\//' && find . | sort | xargs stat -c '%n %a %s %F' |"
           " grep -v directory");
    EXPECT_TRUE(succeeded(done));
    return done.output;
}

/// A few MiB of all kinds: programs and libraries of the guest with their links, a sparse file, a
/// large one, many small ones, and one that was written out of order. Made once.
const std::string& tree() {
    static const std::string made = [] {
        const std::string directory = "/tmp/ublk-tree";
        EXPECT_TRUE(succeeded(
            sh("rm -rf " + directory + "; mkdir -p " + directory + "/real " + directory +
               "/small; cd " + directory +
               "; cp -a /usr/bin /usr/sbin real/"
               "; cp -a $(ls -d /usr/lib/*/libc.so* /usr/lib/*/libm.so* /usr/lib/*/libstdc++*) "
               "real/"
               "; dd if=/dev/urandom of=large bs=1M count=6 2>/dev/null"
               "; dd if=/dev/urandom of=sparse bs=4k count=1 2>/dev/null"
               "; dd if=/dev/urandom of=sparse bs=4k count=3 seek=2000 conv=notrunc 2>/dev/null"
               "; truncate -s 16M sparse"
               "; for i in 5 1 4 0 3 2; do dd if=/dev/urandom of=backwards bs=70000 count=1 "
               "seek=$i"
               " conv=notrunc 2>/dev/null; done"
               "; i=0; while [ $i -lt 300 ]; do echo \"file $i of many\" >small/$i; "
               "i=$((i+1)); done"
               "; : >small/empty")));
        return directory;
    }();
    return made;
}

const std::string& wanted_inventory() {
    static const std::string made = inventory(tree());
    return made;
}

testing::AssertionResult copy_tree(const std::string& to) {
    return succeeded(sh("cp -a " + tree() + " " + to + "/tree; sync"));
}

void sync_all() {
    ublk_test::bounded("sync", [] { ::sync(); });
}

void drop_caches() {
    sync_all();
    EXPECT_TRUE(ublk_test::write_text("/proc/sys/vm/drop_caches", "3"));
}

void expect_same_tree(const mounted& fs) {
    const std::string got = inventory(fs.where() + "/tree");
    EXPECT_GT(got.size(), 10'000u) << "there is nothing to compare";
    EXPECT_TRUE(got == wanted_inventory())
        << "the files have changed:\n"
        << [&got] {
               (void)ublk_test::write_text("/tmp/ublk-a", wanted_inventory());
               (void)ublk_test::write_text("/tmp/ublk-b", got);
               return sh("diff /tmp/ublk-a /tmp/ublk-b | head -30").output;
           }();
}

/// Makes a file system, fills it, and sees it again: from the disk, after a check, and through a
/// second device.
void survives(const kept& store) {
    {
        disk_of_kept disk{store, some_tags()};
        ASSERT_NO_THROW(disk.start());
        ASSERT_TRUE(make_file_system(disk.path()));
        {
            mounted fs{disk.path(), mount_point};
            ASSERT_EQ(fs.code(), 0);
            ASSERT_TRUE(copy_tree(fs.where()));
            drop_caches();
            expect_same_tree(fs);
            ASSERT_EQ(fs.unmount(), 0);
        }
        EXPECT_TRUE(clean(disk.path()));
        EXPECT_GT(store.flushes(), 0u) << "a journal flushes";
        ASSERT_NO_THROW(disk.stop());
    }
    disk_of_kept second{store, some_tags()};
    ASSERT_NO_THROW(second.start());
    EXPECT_TRUE(clean(second.path()));
    mounted fs{second.path(), mount_point};
    ASSERT_EQ(fs.code(), 0);
    expect_same_tree(fs);
    ASSERT_EQ(fs.unmount(), 0);
    ASSERT_NO_THROW(second.stop());
}

class Ext4 : public ublk_test::on_a_clean_system {};

TEST_F(Ext4, FilesAreTheSameAfterUnmountingAndThroughASecondDevice) {
    survives(kept{96 * mebibyte});
}

TEST_F(Ext4, FilesAreTheSameOnBlocksOf4096Bytes) {
    survives(kept{96 * mebibyte, 4096});
}

TEST_F(Ext4, TheSameDeviceServesItsFileSystemAgain) {
    disk_of_kept disk{kept{32 * mebibyte}, some_tags()};
    ASSERT_NO_THROW(disk.start());
    ASSERT_TRUE(make_file_system(disk.path()));
    for (int round = 0; round < 2; ++round) {
        SCOPED_TRACE(round);
        {
            mounted fs{disk.path(), mount_point};
            ASSERT_EQ(fs.code(), 0);
            EXPECT_EQ(ublk_test::read_line(fs.where() + "/note"), round == 0 ? "" : "kept");
            ASSERT_TRUE(ublk_test::write_text(fs.where() + "/note", "kept\n"));
            ASSERT_EQ(fs.unmount(), 0);
        }
        ASSERT_NO_THROW(disk.stop());
        ASSERT_NO_THROW(disk.start());
    }
    EXPECT_TRUE(clean(disk.path()));
}

// Stopping under a mounted file system is what a service does when it is told to end: what was
// synced is on the disk, and the journal makes the rest whole.
TEST_F(Ext4, WhatWasSyncedSurvivesAStopUnderAMountedFileSystem) {
    const kept store{32 * mebibyte};
    {
        disk_of_kept disk{store, some_tags()};
        ASSERT_NO_THROW(disk.start());
        ASSERT_TRUE(make_file_system(disk.path()));
        mounted fs{disk.path(), mount_point};
        ASSERT_EQ(fs.code(), 0);
        ASSERT_TRUE(succeeded(sh("dd if=/dev/urandom of=/tmp/ublk-synced bs=64k count=32 2>&1; cp "
                                 "/tmp/ublk-synced " +
                                 fs.where() + "/synced; sync")));
        ASSERT_NO_THROW(disk.stop());
    }
    disk_of_kept second{store, some_tags()};
    ASSERT_NO_THROW(second.start());
    {
        mounted fs{second.path(), mount_point};  // replays the journal
        ASSERT_EQ(fs.code(), 0);
        EXPECT_TRUE(succeeded(sh("cmp /tmp/ublk-synced " + fs.where() + "/synced")));
        ASSERT_EQ(fs.unmount(), 0);
    }
    EXPECT_TRUE(clean(second.path()));
}

/// FITRIM over the whole file system; the bytes that it gave back, or 0.
std::uint64_t trim(const std::string& where) {
    const ublk::fd directory{::open(where.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    fstrim_range all{0, ~std::uint64_t{0}, 0};
    return ::ioctl(directory.get(), FITRIM, &all) == 0 ? all.len : 0;
}

TEST_F(Ext4, TrimmingGivesMemoryBack) {
    const kept store{96 * mebibyte};
    disk_of_kept disk{store, some_tags()};
    ASSERT_NO_THROW(disk.start());
    ASSERT_TRUE(make_file_system(disk.path()));
    mounted fs{disk.path(), mount_point};
    ASSERT_EQ(fs.code(), 0);
    ASSERT_GT(trim(fs.where()), 0u);
    const std::size_t empty = ublk_test::status_kib("RssAnon");
    ASSERT_TRUE(
        succeeded(sh("dd if=/dev/zero bs=1M count=40 of=" + fs.where() + "/big 2>&1; sync")));
    const std::size_t filled = ublk_test::status_kib("RssAnon");
    EXPECT_GE(filled, empty + 36 * 1024);
    ASSERT_EQ(::unlink((fs.where() + "/big").c_str()), 0);
    sync_all();
    const std::uint64_t before = store.discarded();
    EXPECT_GE(trim(fs.where()), 40 * mebibyte);
    EXPECT_GE(store.discarded() - before, 40 * mebibyte);
    EXPECT_LE(ublk_test::status_kib("RssAnon"), filled - 36 * 1024);
    ASSERT_EQ(fs.unmount(), 0);
    EXPECT_TRUE(clean(disk.path()));
}

TEST_F(Ext4, MountedWithDiscardDeletingGivesMemoryBack) {
    const kept store{96 * mebibyte};
    disk_of_kept disk{store, some_tags()};
    ASSERT_NO_THROW(disk.start());
    ASSERT_TRUE(make_file_system(disk.path()));
    mounted fs{disk.path(), mount_point, "discard"};
    ASSERT_EQ(fs.code(), 0);
    ASSERT_TRUE(
        succeeded(sh("dd if=/dev/zero bs=1M count=40 of=" + fs.where() + "/big 2>&1; sync")));
    const std::size_t filled = ublk_test::status_kib("RssAnon");
    const std::uint64_t before = store.discarded();
    ASSERT_EQ(::unlink((fs.where() + "/big").c_str()), 0);
    // ext4 discards when the journal has the deletion, and not before.
    EXPECT_TRUE(eventually([&] {
        sync_all();
        return store.discarded() - before >= 40 * mebibyte;
    })) << store.discarded() - before
        << " bytes were discarded";
    EXPECT_TRUE(eventually([&] { return ublk_test::status_kib("RssAnon") + 36 * 1024 <= filled; }));
    ASSERT_EQ(fs.unmount(), 0);
    EXPECT_TRUE(clean(disk.path()));
}

/// Newer kernels look for partitions after START_DEV has returned.
bool appears(const std::string& path) {
    return eventually([&path] { return std::filesystem::exists(path); });
}

TEST_F(Ext4, PartitionsAppearAreUsedAndAreFoundAgainAtStart) {
    const kept store{64 * mebibyte};
    {
        disk_of_kept disk{store, some_tags()};
        ASSERT_NO_THROW(disk.start());
        EXPECT_FALSE(std::filesystem::exists(disk.path() + "p1"));
        ASSERT_TRUE(succeeded(sh(
            "printf 'label: gpt\\n, 16M\\n, \\n' | sfdisk --quiet --wipe always " + disk.path())));
        const std::string first = disk.path() + "p1";
        const std::string second = disk.path() + "p2";
        ASSERT_TRUE(appears(first));
        ASSERT_TRUE(appears(second));
        const std::string sysfs =
            "/sys/block/ublkb" + std::to_string(disk.id()) + "/ublkb" + std::to_string(disk.id());
        EXPECT_EQ(ublk_test::read_line(sysfs + "p1/size"), std::to_string(16 * mebibyte / 512));
        ASSERT_TRUE(make_file_system(second));
        mounted fs{second, mount_point};
        ASSERT_EQ(fs.code(), 0);
        ASSERT_TRUE(succeeded(
            sh("cd " + fs.where() +
               "; dd if=/dev/urandom of=data bs=64k count=64 2>&1; sha256sum data >data.sum")));
        ASSERT_EQ(fs.unmount(), 0);
        ASSERT_NO_THROW(disk.stop());
        EXPECT_FALSE(std::filesystem::exists(second)) << "partitions go with their disk";
    }
    disk_of_kept again{store, some_tags()};
    ASSERT_NO_THROW(again.start());
    const std::string second = again.path() + "p2";
    ASSERT_TRUE(appears(again.path() + "p1")) << "nobody looked for partitions at start";
    ASSERT_TRUE(appears(second));
    const ublk_test::finished kind = sh("blkid -p -o export " + second);
    EXPECT_TRUE(succeeded(kind));
    EXPECT_NE(kind.output.find("TYPE=ext4"), std::string::npos) << kind.output;
    EXPECT_TRUE(clean(second));
    mounted fs{second, mount_point};
    ASSERT_EQ(fs.code(), 0);
    EXPECT_TRUE(succeeded(sh("cd " + fs.where() + "; sha256sum -c data.sum")));
    ASSERT_EQ(fs.unmount(), 0);
}

TEST_F(Ext4, PartitionsAreLeftAloneWhereAsked) {
    const kept store{16 * mebibyte};
    ublk::options requested = some_tags();
    {
        disk_of_kept disk{store, requested};
        ASSERT_NO_THROW(disk.start());
        ASSERT_TRUE(succeeded(
            sh("printf 'label: dos\\n, 4M\\n' | sfdisk --quiet --wipe always " + disk.path())));
        ASSERT_TRUE(appears(disk.path() + "p1"));
    }
    requested.partition_scan = false;
    disk_of_kept disk{store, requested};
    if (ublk_test::running_kernel() < ublk::kernel_version{7, 0}) {
        EXPECT_THROW(disk.start(), ublk::error) << "it cannot be had, and must not be ignored";
        GTEST_SKIP() << "leaving partitions alone needs Linux 7.0";
    }
    ASSERT_NO_THROW(disk.start());
    std::this_thread::sleep_for(500ms);
    EXPECT_FALSE(std::filesystem::exists(disk.path() + "p1"));
    // Who asks for them gets them.
    ASSERT_TRUE(succeeded(sh("blockdev --rereadpt " + disk.path())));
    EXPECT_TRUE(appears(disk.path() + "p1"));
}

}  // namespace
}  // namespace ext4_test
