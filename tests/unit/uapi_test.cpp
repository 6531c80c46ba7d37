// SPDX-License-Identifier: MIT
#include <ublk/uapi.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>

namespace uapi_test {
namespace {

namespace uapi = ublk::uapi;

struct golden {
    std::uint32_t ours;
    std::uint32_t number;
};

constexpr std::array control_commands{
    golden{uapi::ctrl::get_queue_affinity, 0x80207501},
    golden{uapi::ctrl::get_dev_info, 0x80207502},
    golden{uapi::ctrl::add_dev, 0xc0207504},
    golden{uapi::ctrl::del_dev, 0xc0207505},
    golden{uapi::ctrl::start_dev, 0xc0207506},
    golden{uapi::ctrl::stop_dev, 0xc0207507},
    golden{uapi::ctrl::set_params, 0xc0207508},
    golden{uapi::ctrl::get_params, 0x80207509},
    golden{uapi::ctrl::start_user_recovery, 0xc0207510},
    golden{uapi::ctrl::end_user_recovery, 0xc0207511},
    golden{uapi::ctrl::get_dev_info2, 0x80207512},
    golden{uapi::ctrl::get_features, 0x80207513},
    golden{uapi::ctrl::del_dev_async, 0x80207514},
    golden{uapi::ctrl::update_size, 0xc0207515},
    golden{uapi::ctrl::quiesce_dev, 0xc0207516},
    golden{uapi::ctrl::try_stop_dev, 0xc0207517},
    golden{uapi::ctrl::reg_buf, 0xc0207518},
    golden{uapi::ctrl::unreg_buf, 0xc0207519},
};

constexpr std::array io_commands{
    golden{uapi::io::fetch_req, 0xc0107520},
    golden{uapi::io::commit_and_fetch_req, 0xc0107521},
    golden{uapi::io::need_get_data, 0xc0107522},
    golden{uapi::io::register_io_buf, 0xc0107523},
    golden{uapi::io::unregister_io_buf, 0xc0107524},
    golden{uapi::io::prep_io_cmds, 0xc0107525},
    golden{uapi::io::commit_io_cmds, 0xc0107526},
    golden{uapi::io::fetch_io_cmds, 0xc0107527},
};

TEST(uapi, commands_have_the_numbers_the_kernel_was_built_with) {
    for (const auto& [ours, number] : control_commands) {
        EXPECT_EQ(ours, number);
    }
    for (const auto& [ours, number] : io_commands) {
        EXPECT_EQ(ours, number);
    }
}

TEST(uapi, kernels_before_6_4_take_the_bare_number) {
    EXPECT_EQ(uapi::legacy(uapi::ctrl::add_dev), 0x04u);
    EXPECT_EQ(uapi::legacy(uapi::ctrl::end_user_recovery), 0x11u);
    EXPECT_EQ(uapi::legacy(uapi::io::commit_and_fetch_req), 0x21u);
}

TEST(uapi, a_fresh_struct_is_all_zero_bytes) {
    const auto all_zero = [](const auto& value) {
        std::array<unsigned char, sizeof value> bytes{};
        bytes.fill(0xaa);
        std::memcpy(bytes.data(), &value, sizeof value);
        return bytes == std::array<unsigned char, sizeof value>{};
    };
    EXPECT_TRUE(all_zero(uapi::ctrl_cmd{}));
    EXPECT_TRUE(all_zero(uapi::dev_info{}));
    EXPECT_TRUE(all_zero(uapi::shmem_buf_reg{}));
    EXPECT_TRUE(all_zero(uapi::io_cmd{}));
    EXPECT_TRUE(all_zero(uapi::batch_io{}));
    EXPECT_TRUE(all_zero(uapi::elem_header{}));
    EXPECT_TRUE(all_zero(uapi::params{}));
}

// The formula of the kernel's documentation, written independently of ours.
TEST(uapi, user_copy_positions_follow_the_kernels_formula) {
    for (const std::uint64_t queue : {0u, 1u, 7u, 4095u}) {
        for (const std::uint64_t tag : {0u, 1u, 63u, 64u, 65u, 127u, 4095u}) {
            for (const std::uint64_t offset : {0u, 1u, 4096u, (1u << 25) - 1}) {
                const std::uint64_t expected =
                    0x80000000ull + queue * (1ull << 41) + tag * (1ull << 25) + offset;
                EXPECT_EQ(uapi::user_copy_position(static_cast<std::uint16_t>(queue),
                                                   static_cast<std::uint16_t>(tag), offset),
                          expected);
            }
        }
    }
}

TEST(uapi, user_copy_positions_of_all_tags_differ) {
    std::set<std::uint64_t> seen;
    for (std::uint16_t tag = 0; tag < uapi::max_queue_depth; ++tag) {
        EXPECT_TRUE(seen.insert(uapi::user_copy_position(0, tag, 0)).second) << tag;
        EXPECT_TRUE(seen.insert(uapi::user_copy_position(4095, tag, 0)).second) << tag;
    }
}

TEST(uapi, user_copy_positions_fit_a_file_offset_with_the_integrity_bit) {
    const std::uint64_t last = uapi::user_copy_position(4095, 0xffff, uapi::max_io_buf_bytes - 1);
    EXPECT_EQ(last, uapi::io_buf_offset + uapi::io_buf_end - 1);
    EXPECT_EQ(last & uapi::integrity_position_bit, 0u);
    EXPECT_GT(static_cast<std::int64_t>(last | uapi::integrity_position_bit), 0);
}

// Regression: a stride derived from the device's own depth makes every queue but the first read the
// descriptors of another one.
TEST(uapi, queue_descriptors_are_4096_apart_whatever_the_depth) {
    EXPECT_EQ(uapi::cmd_buf_stride(24, 4096), 98304u);
    EXPECT_EQ(uapi::cmd_buf_stride(24, 65536), 131072u);
    EXPECT_EQ(uapi::cmd_buf_stride(64, 4096), 262144u);
    EXPECT_EQ(uapi::cmd_buf_stride(256, 4096), 1048576u);
    EXPECT_NE(uapi::cmd_buf_stride(24, 4096), uapi::cmd_buf_size(128, 24, 4096));
}

TEST(uapi, a_mapping_is_as_long_as_the_depth_asks_in_whole_pages) {
    EXPECT_EQ(uapi::cmd_buf_size(1, 24, 4096), 4096u);
    EXPECT_EQ(uapi::cmd_buf_size(128, 24, 4096), 4096u);
    EXPECT_EQ(uapi::cmd_buf_size(170, 24, 4096), 4096u);
    EXPECT_EQ(uapi::cmd_buf_size(171, 24, 4096), 8192u);
    EXPECT_EQ(uapi::cmd_buf_size(4096, 24, 4096), 98304u);
    EXPECT_EQ(uapi::cmd_buf_size(128, 64, 65536), 65536u);
}

// Regression for a trap in the kernel's header: its helper shifts the flags, its constants do not.
TEST(uapi, request_flags_are_tested_where_they_lie) {
    const std::uint32_t op_flags = 5u | 1u << 13 | 1u << 15;
    EXPECT_EQ(uapi::op_of(op_flags), uapi::op::write_zeroes);
    EXPECT_NE(op_flags & uapi::io_flag::fua, 0u);
    EXPECT_NE(op_flags & uapi::io_flag::nounmap, 0u);
    EXPECT_EQ(op_flags & uapi::io_flag::meta, 0u);
    constexpr std::uint32_t every_flag =
        uapi::io_flag::failfast_dev | uapi::io_flag::failfast_transport |
        uapi::io_flag::failfast_driver | uapi::io_flag::meta | uapi::io_flag::fua |
        uapi::io_flag::nounmap | uapi::io_flag::swap | uapi::io_flag::need_reg_buf |
        uapi::io_flag::integrity | uapi::io_flag::shmem_zc;
    EXPECT_EQ(every_flag, 0xfaf00u);
    EXPECT_EQ(every_flag & uapi::op_mask, 0u);
}

TEST(uapi, an_auto_registered_buffer_packs_into_sqe_addr) {
    EXPECT_EQ((uapi::auto_buf_reg{.index = 0xbeef}).sqe_addr(), 0xbeefu);
    EXPECT_EQ((uapi::auto_buf_reg{.index = 3, .flags = uapi::auto_buf_reg_fallback}).sqe_addr(),
              0x10003u);
    EXPECT_EQ(
        (uapi::auto_buf_reg{.index = 1, .flags = 2, .reserved0 = 3, .reserved1 = 4}).sqe_addr(),
        0x0000000403020001u);
}

TEST(uapi, batch_elements_grow_by_their_flags) {
    using namespace uapi::batch_flag;
    EXPECT_EQ(uapi::batch_elem_bytes(0), 8);
    EXPECT_EQ(uapi::batch_elem_bytes(has_buf_addr), 16);
    EXPECT_EQ(uapi::batch_elem_bytes(has_zone_lba), 16);
    EXPECT_EQ(uapi::batch_elem_bytes(has_zone_lba | has_buf_addr), 24);
    EXPECT_EQ(uapi::batch_elem_bytes(auto_buf_reg_fallback), 8);
}

// These come from <linux/fs.h>, which the comparison with the ublk header does not see.
TEST(uapi, integrity_words_are_those_of_the_file_system_header) {
    EXPECT_EQ(uapi::integrity_flag::capable, 1u);
    EXPECT_EQ(uapi::integrity_flag::reftag, 2u);
    EXPECT_EQ(static_cast<int>(uapi::csum_type::none), 0);
    EXPECT_EQ(static_cast<int>(uapi::csum_type::ip), 1);
    EXPECT_EQ(static_cast<int>(uapi::csum_type::crc16_t10_dif), 2);
    EXPECT_EQ(static_cast<int>(uapi::csum_type::crc64_nvme), 4);
}

TEST(uapi, a_shared_memory_address_is_an_index_and_an_offset) {
    const std::uint64_t addr = uapi::shmem_zc_addr(0xfffe, 0xfedcba98);
    EXPECT_EQ(addr, 0xfffefedcba98u);
    EXPECT_EQ(uapi::shmem_zc_index(addr), 0xfffe);
    EXPECT_EQ(uapi::shmem_zc_offset(addr), 0xfedcba98u);
}

}  // namespace
}  // namespace uapi_test
