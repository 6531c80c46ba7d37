// SPDX-License-Identifier: MIT

// Compares uapi.hpp with the kernel's own <linux/ublk_cmd.h>, whichever release it is from. The
// build may name a newer copy than the system's: -DUBLK_HEADER_PATH='"/path/to/linux/ublk_cmd.h"'.
//
// A name that the header lacks is counted as newer than the header. A name that we lack is a
// failure: the kernel has grown and uapi.hpp has to follow.

#include <ublk/uapi.hpp>

#include <gtest/gtest.h>

#include <sys/ioctl.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#ifndef UBLK_HEADER_PATH
#define UBLK_HEADER_PATH "/usr/include/linux/ublk_cmd.h"
#endif

// clang-format off
#define NAMES(X)                                                                                   \
    X(UBLK_CMD_GET_QUEUE_AFFINITY,         legacy(ctrl::get_queue_affinity))                       \
    X(UBLK_CMD_GET_DEV_INFO,               legacy(ctrl::get_dev_info))                             \
    X(UBLK_CMD_ADD_DEV,                    legacy(ctrl::add_dev))                                  \
    X(UBLK_CMD_DEL_DEV,                    legacy(ctrl::del_dev))                                  \
    X(UBLK_CMD_START_DEV,                  legacy(ctrl::start_dev))                                \
    X(UBLK_CMD_STOP_DEV,                   legacy(ctrl::stop_dev))                                 \
    X(UBLK_CMD_SET_PARAMS,                 legacy(ctrl::set_params))                               \
    X(UBLK_CMD_GET_PARAMS,                 legacy(ctrl::get_params))                               \
    X(UBLK_CMD_START_USER_RECOVERY,        legacy(ctrl::start_user_recovery))                      \
    X(UBLK_CMD_END_USER_RECOVERY,          legacy(ctrl::end_user_recovery))                        \
    X(UBLK_CMD_GET_DEV_INFO2,              legacy(ctrl::get_dev_info2))                            \
    X(UBLK_U_CMD_GET_QUEUE_AFFINITY,       ctrl::get_queue_affinity)                               \
    X(UBLK_U_CMD_GET_DEV_INFO,             ctrl::get_dev_info)                                     \
    X(UBLK_U_CMD_ADD_DEV,                  ctrl::add_dev)                                          \
    X(UBLK_U_CMD_DEL_DEV,                  ctrl::del_dev)                                          \
    X(UBLK_U_CMD_START_DEV,                ctrl::start_dev)                                        \
    X(UBLK_U_CMD_STOP_DEV,                 ctrl::stop_dev)                                         \
    X(UBLK_U_CMD_SET_PARAMS,               ctrl::set_params)                                       \
    X(UBLK_U_CMD_GET_PARAMS,               ctrl::get_params)                                       \
    X(UBLK_U_CMD_START_USER_RECOVERY,      ctrl::start_user_recovery)                              \
    X(UBLK_U_CMD_END_USER_RECOVERY,        ctrl::end_user_recovery)                                \
    X(UBLK_U_CMD_GET_DEV_INFO2,            ctrl::get_dev_info2)                                    \
    X(UBLK_U_CMD_GET_FEATURES,             ctrl::get_features)                                     \
    X(UBLK_U_CMD_DEL_DEV_ASYNC,            ctrl::del_dev_async)                                    \
    X(UBLK_U_CMD_UPDATE_SIZE,              ctrl::update_size)                                      \
    X(UBLK_U_CMD_QUIESCE_DEV,              ctrl::quiesce_dev)                                      \
    X(UBLK_U_CMD_TRY_STOP_DEV,             ctrl::try_stop_dev)                                     \
    X(UBLK_U_CMD_REG_BUF,                  ctrl::reg_buf)                                          \
    X(UBLK_U_CMD_UNREG_BUF,                ctrl::unreg_buf)                                        \
    X(UBLK_SHMEM_BUF_READ_ONLY,            shmem_buf_read_only)                                    \
    X(UBLK_FEATURES_LEN,                   features_len)                                           \
    X(UBLK_IO_FETCH_REQ,                   legacy(io::fetch_req))                                  \
    X(UBLK_IO_COMMIT_AND_FETCH_REQ,        legacy(io::commit_and_fetch_req))                       \
    X(UBLK_IO_NEED_GET_DATA,               legacy(io::need_get_data))                              \
    X(UBLK_U_IO_FETCH_REQ,                 io::fetch_req)                                          \
    X(UBLK_U_IO_COMMIT_AND_FETCH_REQ,      io::commit_and_fetch_req)                               \
    X(UBLK_U_IO_NEED_GET_DATA,             io::need_get_data)                                      \
    X(UBLK_U_IO_REGISTER_IO_BUF,           io::register_io_buf)                                    \
    X(UBLK_U_IO_UNREGISTER_IO_BUF,         io::unregister_io_buf)                                  \
    X(UBLK_U_IO_PREP_IO_CMDS,              io::prep_io_cmds)                                       \
    X(UBLK_U_IO_COMMIT_IO_CMDS,            io::commit_io_cmds)                                     \
    X(UBLK_U_IO_FETCH_IO_CMDS,             io::fetch_io_cmds)                                      \
    X(UBLK_IO_RES_OK,                      io_res_ok)                                              \
    X(UBLK_IO_RES_NEED_GET_DATA,           io_res_need_get_data)                                   \
    X(UBLK_IO_RES_ABORT,                   io_res_abort)                                           \
    X(UBLKSRV_CMD_BUF_OFFSET,              cmd_buf_offset)                                         \
    X(UBLKSRV_IO_BUF_OFFSET,               io_buf_offset)                                          \
    X(UBLK_MAX_QUEUE_DEPTH,                max_queue_depth)                                        \
    X(UBLK_IO_BUF_OFF,                     0)                                                      \
    X(UBLK_IO_BUF_BITS,                    io_buf_bits)                                            \
    X(UBLK_IO_BUF_BITS_MASK,               max_io_buf_bytes - 1)                                   \
    X(UBLK_TAG_OFF,                        tag_shift)                                              \
    X(UBLK_TAG_BITS,                       tag_bits)                                               \
    X(UBLK_TAG_BITS_MASK,                  (1u << tag_bits) - 1)                                   \
    X(UBLK_QID_OFF,                        qid_shift)                                              \
    X(UBLK_QID_BITS,                       qid_bits)                                               \
    X(UBLK_QID_BITS_MASK,                  (1u << qid_bits) - 1)                                   \
    X(UBLK_MAX_NR_QUEUES,                  max_nr_queues)                                          \
    X(UBLKSRV_IO_BUF_TOTAL_BITS,           std::countr_zero(io_buf_end))                           \
    X(UBLKSRV_IO_BUF_TOTAL_SIZE,           io_buf_end)                                             \
    X(UBLK_INTEGRITY_FLAG_OFF,             std::countr_zero(integrity_position_bit))               \
    X(UBLKSRV_IO_INTEGRITY_FLAG,           integrity_position_bit)                                 \
    X(UBLK_F_SUPPORT_ZERO_COPY,            feature::support_zero_copy)                             \
    X(UBLK_F_URING_CMD_COMP_IN_TASK,       feature::uring_cmd_comp_in_task)                        \
    X(UBLK_F_NEED_GET_DATA,                feature::need_get_data)                                 \
    X(UBLK_F_USER_RECOVERY,                feature::user_recovery)                                 \
    X(UBLK_F_USER_RECOVERY_REISSUE,        feature::user_recovery_reissue)                         \
    X(UBLK_F_UNPRIVILEGED_DEV,             feature::unprivileged_dev)                              \
    X(UBLK_F_CMD_IOCTL_ENCODE,             feature::cmd_ioctl_encode)                              \
    X(UBLK_F_USER_COPY,                    feature::user_copy)                                     \
    X(UBLK_F_ZONED,                        feature::zoned)                                         \
    X(UBLK_F_USER_RECOVERY_FAIL_IO,        feature::user_recovery_fail_io)                         \
    X(UBLK_F_UPDATE_SIZE,                  feature::update_size)                                   \
    X(UBLK_F_AUTO_BUF_REG,                 feature::auto_buf_reg)                                  \
    X(UBLK_F_QUIESCE,                      feature::quiesce)                                       \
    X(UBLK_F_PER_IO_DAEMON,                feature::per_io_daemon)                                 \
    X(UBLK_F_BUF_REG_OFF_DAEMON,           feature::buf_reg_off_daemon)                            \
    X(UBLK_F_BATCH_IO,                     feature::batch_io)                                      \
    X(UBLK_F_INTEGRITY,                    feature::integrity)                                     \
    X(UBLK_F_SAFE_STOP_DEV,                feature::safe_stop_dev)                                 \
    X(UBLK_F_NO_AUTO_PART_SCAN,            feature::no_auto_part_scan)                             \
    X(UBLK_F_SHMEM_ZC,                     feature::shmem_zc)                                      \
    X(UBLK_F_IO_DESC_SIZE,                 feature::io_desc_size)                                  \
    X(UBLK_S_DEV_DEAD,                     dev_state::dead)                                        \
    X(UBLK_S_DEV_LIVE,                     dev_state::live)                                        \
    X(UBLK_S_DEV_QUIESCED,                 dev_state::quiesced)                                    \
    X(UBLK_S_DEV_FAIL_IO,                  dev_state::fail_io)                                     \
    X(UBLK_IO_OP_READ,                     op::read)                                               \
    X(UBLK_IO_OP_WRITE,                    op::write)                                              \
    X(UBLK_IO_OP_FLUSH,                    op::flush)                                              \
    X(UBLK_IO_OP_DISCARD,                  op::discard)                                            \
    X(UBLK_IO_OP_WRITE_SAME,               op::write_same)                                         \
    X(UBLK_IO_OP_WRITE_ZEROES,             op::write_zeroes)                                       \
    X(UBLK_IO_OP_ZONE_OPEN,                op::zone_open)                                          \
    X(UBLK_IO_OP_ZONE_CLOSE,               op::zone_close)                                         \
    X(UBLK_IO_OP_ZONE_FINISH,              op::zone_finish)                                        \
    X(UBLK_IO_OP_ZONE_APPEND,              op::zone_append)                                        \
    X(UBLK_IO_OP_ZONE_RESET_ALL,           op::zone_reset_all)                                     \
    X(UBLK_IO_OP_ZONE_RESET,               op::zone_reset)                                         \
    X(UBLK_IO_OP_REPORT_ZONES,             op::report_zones)                                       \
    X(UBLK_IO_F_FAILFAST_DEV,              io_flag::failfast_dev)                                  \
    X(UBLK_IO_F_FAILFAST_TRANSPORT,        io_flag::failfast_transport)                            \
    X(UBLK_IO_F_FAILFAST_DRIVER,           io_flag::failfast_driver)                               \
    X(UBLK_IO_F_META,                      io_flag::meta)                                          \
    X(UBLK_IO_F_FUA,                       io_flag::fua)                                           \
    X(UBLK_IO_F_NOUNMAP,                   io_flag::nounmap)                                       \
    X(UBLK_IO_F_SWAP,                      io_flag::swap)                                          \
    X(UBLK_IO_F_NEED_REG_BUF,              io_flag::need_reg_buf)                                  \
    X(UBLK_IO_F_INTEGRITY,                 io_flag::integrity)                                     \
    X(UBLK_IO_F_SHMEM_ZC,                  io_flag::shmem_zc)                                      \
    X(UBLK_AUTO_BUF_REG_FALLBACK,          auto_buf_reg_fallback)                                  \
    X(UBLK_AUTO_BUF_REG_F_MASK,            auto_buf_reg_fallback)                                  \
    X(UBLK_BATCH_F_HAS_ZONE_LBA,           batch_flag::has_zone_lba)                               \
    X(UBLK_BATCH_F_HAS_BUF_ADDR,           batch_flag::has_buf_addr)                               \
    X(UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK,  batch_flag::auto_buf_reg_fallback)                      \
    X(UBLK_ATTR_READ_ONLY,                 attr::read_only)                                        \
    X(UBLK_ATTR_ROTATIONAL,                attr::rotational)                                       \
    X(UBLK_ATTR_VOLATILE_CACHE,            attr::volatile_cache)                                   \
    X(UBLK_ATTR_FUA,                       attr::fua)                                              \
    X(UBLK_MIN_SEGMENT_SIZE,               min_segment_size)                                       \
    X(UBLK_PARAM_TYPE_BASIC,               param_type::basic)                                      \
    X(UBLK_PARAM_TYPE_DISCARD,             param_type::discard)                                    \
    X(UBLK_PARAM_TYPE_DEVT,                param_type::devt)                                       \
    X(UBLK_PARAM_TYPE_ZONED,               param_type::zoned)                                      \
    X(UBLK_PARAM_TYPE_DMA_ALIGN,           param_type::dma_align)                                  \
    X(UBLK_PARAM_TYPE_SEGMENT,             param_type::segment)                                    \
    X(UBLK_PARAM_TYPE_INTEGRITY,           param_type::integrity)                                  \
    X(UBLK_SHMEM_ZC_OFF_MASK,              shmem_zc_offset(~std::uint64_t{0}))                     \
    X(UBLK_SHMEM_ZC_IDX_OFF,               std::countr_zero(shmem_zc_addr(1, 0)))                  \
    X(UBLK_SHMEM_ZC_IDX_MASK,              shmem_zc_index(~std::uint64_t{0}))

// Theirs, ours, whether older releases have a shorter one.
#define STRUCTS(X)                                                                                 \
    X(ublksrv_ctrl_cmd,      ctrl_cmd,        false)                                               \
    X(ublksrv_ctrl_dev_info, dev_info,        false)                                               \
    X(ublk_shmem_buf_reg,    shmem_buf_reg,   false)                                               \
    X(ublksrv_io_desc,       io_desc,         false)                                               \
    X(ublksrv_io_cmd,        io_cmd,          false)                                               \
    X(ublk_batch_io,         batch_io,        false)                                               \
    X(ublk_elem_header,      elem_header,     false)                                               \
    X(ublk_auto_buf_reg,     auto_buf_reg,    false)                                               \
    X(ublk_param_basic,      param_basic,     false)                                               \
    X(ublk_param_discard,    param_discard,   false)                                               \
    X(ublk_param_devt,       param_devt,      false)                                               \
    X(ublk_param_zoned,      param_zoned,     false)                                               \
    X(ublk_param_dma_align,  param_dma_align, false)                                               \
    X(ublk_param_segment,    param_segment,   false)                                               \
    X(ublk_param_integrity,  param_integrity, false)                                               \
    X(ublk_params,           params,          true)

// Struct and field, theirs and then ours.
#define FIELDS(X)                                                                                  \
    X(ublksrv_ctrl_cmd, dev_id, ctrl_cmd, dev_id)                                                  \
    X(ublksrv_ctrl_cmd, queue_id, ctrl_cmd, queue_id)                                              \
    X(ublksrv_ctrl_cmd, len, ctrl_cmd, len)                                                        \
    X(ublksrv_ctrl_cmd, addr, ctrl_cmd, addr)                                                      \
    X(ublksrv_ctrl_cmd, data[0], ctrl_cmd, data)                                                   \
    X(ublksrv_ctrl_cmd, dev_path_len, ctrl_cmd, dev_path_len)                                      \
    X(ublksrv_ctrl_cmd, pad, ctrl_cmd, pad)                                                        \
    X(ublksrv_ctrl_cmd, reserved, ctrl_cmd, reserved)                                              \
    X(ublksrv_ctrl_dev_info, nr_hw_queues, dev_info, nr_hw_queues)                                 \
    X(ublksrv_ctrl_dev_info, queue_depth, dev_info, queue_depth)                                   \
    X(ublksrv_ctrl_dev_info, state, dev_info, state)                                               \
    X(ublksrv_ctrl_dev_info, io_desc_size, dev_info, io_desc_size)                                 \
    X(ublksrv_ctrl_dev_info, max_io_buf_bytes, dev_info, max_io_buf_bytes)                         \
    X(ublksrv_ctrl_dev_info, dev_id, dev_info, dev_id)                                             \
    X(ublksrv_ctrl_dev_info, ublksrv_pid, dev_info, pid)                                           \
    X(ublksrv_ctrl_dev_info, pad1, dev_info, pad1)                                                 \
    X(ublksrv_ctrl_dev_info, flags, dev_info, flags)                                               \
    X(ublksrv_ctrl_dev_info, ublksrv_flags, dev_info, server_flags)                                \
    X(ublksrv_ctrl_dev_info, owner_uid, dev_info, owner_uid)                                       \
    X(ublksrv_ctrl_dev_info, owner_gid, dev_info, owner_gid)                                       \
    X(ublksrv_ctrl_dev_info, reserved1, dev_info, reserved1)                                       \
    X(ublksrv_ctrl_dev_info, reserved2, dev_info, reserved2)                                       \
    X(ublk_shmem_buf_reg, addr, shmem_buf_reg, addr)                                               \
    X(ublk_shmem_buf_reg, len, shmem_buf_reg, len)                                                 \
    X(ublk_shmem_buf_reg, flags, shmem_buf_reg, flags)                                             \
    X(ublk_shmem_buf_reg, reserved, shmem_buf_reg, reserved)                                       \
    X(ublksrv_io_desc, op_flags, io_desc, op_flags)                                                \
    X(ublksrv_io_desc, nr_sectors, io_desc, nr_sectors)                                            \
    X(ublksrv_io_desc, nr_zones, io_desc, nr_sectors)                                              \
    X(ublksrv_io_desc, start_sector, io_desc, start_sector)                                        \
    X(ublksrv_io_desc, addr, io_desc, addr)                                                        \
    X(ublksrv_io_cmd, q_id, io_cmd, q_id)                                                          \
    X(ublksrv_io_cmd, tag, io_cmd, tag)                                                            \
    X(ublksrv_io_cmd, result, io_cmd, result)                                                      \
    X(ublksrv_io_cmd, addr, io_cmd, addr)                                                          \
    X(ublksrv_io_cmd, zone_append_lba, io_cmd, addr)                                               \
    X(ublk_batch_io, q_id, batch_io, q_id)                                                         \
    X(ublk_batch_io, flags, batch_io, flags)                                                       \
    X(ublk_batch_io, nr_elem, batch_io, nr_elem)                                                   \
    X(ublk_batch_io, elem_bytes, batch_io, elem_bytes)                                             \
    X(ublk_batch_io, reserved, batch_io, reserved)                                                 \
    X(ublk_batch_io, reserved2, batch_io, reserved2)                                               \
    X(ublk_elem_header, tag, elem_header, tag)                                                     \
    X(ublk_elem_header, buf_index, elem_header, buf_index)                                         \
    X(ublk_elem_header, result, elem_header, result)                                               \
    X(ublk_auto_buf_reg, index, auto_buf_reg, index)                                               \
    X(ublk_auto_buf_reg, flags, auto_buf_reg, flags)                                               \
    X(ublk_auto_buf_reg, reserved0, auto_buf_reg, reserved0)                                       \
    X(ublk_auto_buf_reg, reserved1, auto_buf_reg, reserved1)                                       \
    X(ublk_param_basic, attrs, param_basic, attrs)                                                 \
    X(ublk_param_basic, logical_bs_shift, param_basic, logical_bs_shift)                           \
    X(ublk_param_basic, physical_bs_shift, param_basic, physical_bs_shift)                         \
    X(ublk_param_basic, io_opt_shift, param_basic, io_opt_shift)                                   \
    X(ublk_param_basic, io_min_shift, param_basic, io_min_shift)                                   \
    X(ublk_param_basic, max_sectors, param_basic, max_sectors)                                     \
    X(ublk_param_basic, chunk_sectors, param_basic, chunk_sectors)                                 \
    X(ublk_param_basic, dev_sectors, param_basic, dev_sectors)                                     \
    X(ublk_param_basic, virt_boundary_mask, param_basic, virt_boundary_mask)                       \
    X(ublk_param_discard, discard_alignment, param_discard, discard_alignment)                     \
    X(ublk_param_discard, discard_granularity, param_discard, discard_granularity)                 \
    X(ublk_param_discard, max_discard_sectors, param_discard, max_discard_sectors)                 \
    X(ublk_param_discard, max_write_zeroes_sectors, param_discard, max_write_zeroes_sectors)       \
    X(ublk_param_discard, max_discard_segments, param_discard, max_discard_segments)               \
    X(ublk_param_discard, reserved0, param_discard, reserved0)                                     \
    X(ublk_param_devt, char_major, param_devt, char_major)                                         \
    X(ublk_param_devt, char_minor, param_devt, char_minor)                                         \
    X(ublk_param_devt, disk_major, param_devt, disk_major)                                         \
    X(ublk_param_devt, disk_minor, param_devt, disk_minor)                                         \
    X(ublk_param_zoned, max_open_zones, param_zoned, max_open_zones)                               \
    X(ublk_param_zoned, max_active_zones, param_zoned, max_active_zones)                           \
    X(ublk_param_zoned, max_zone_append_sectors, param_zoned, max_zone_append_sectors)             \
    X(ublk_param_zoned, reserved, param_zoned, reserved)                                           \
    X(ublk_param_dma_align, alignment, param_dma_align, alignment)                                 \
    X(ublk_param_dma_align, pad, param_dma_align, pad)                                             \
    X(ublk_param_segment, seg_boundary_mask, param_segment, seg_boundary_mask)                     \
    X(ublk_param_segment, max_segment_size, param_segment, max_segment_size)                       \
    X(ublk_param_segment, max_segments, param_segment, max_segments)                               \
    X(ublk_param_segment, pad, param_segment, pad)                                                 \
    X(ublk_param_integrity, flags, param_integrity, flags)                                         \
    X(ublk_param_integrity, max_integrity_segments, param_integrity, max_integrity_segments)       \
    X(ublk_param_integrity, interval_exp, param_integrity, interval_exp)                           \
    X(ublk_param_integrity, metadata_size, param_integrity, metadata_size)                         \
    X(ublk_param_integrity, pi_offset, param_integrity, pi_offset)                                 \
    X(ublk_param_integrity, csum_type, param_integrity, csum)                                      \
    X(ublk_param_integrity, tag_size, param_integrity, tag_size)                                   \
    X(ublk_param_integrity, pad, param_integrity, pad)                                             \
    X(ublk_params, len, params, len)                                                               \
    X(ublk_params, types, params, types)                                                           \
    X(ublk_params, basic, params, basic)                                                           \
    X(ublk_params, discard, params, discard)                                                       \
    X(ublk_params, devt, params, devt)                                                             \
    X(ublk_params, zoned, params, zoned)                                                           \
    X(ublk_params, dma, params, dma)                                                               \
    X(ublk_params, seg, params, seg)                                                               \
    X(ublk_params, integrity, params, integrity)
// clang-format on

// A variable for every macro the header may lack, declared while none of them is a macro yet. Once
// the header is in, a name means the header's value where there is one, and this variable
// otherwise.
namespace fallback {
struct absent {};
#define X(theirs, ours) [[maybe_unused]] constexpr absent theirs{};
NAMES(X)
#undef X
}  // namespace fallback

// And an incomplete struct for every one the header may lack.
#define X(theirs, ours, grew) struct theirs;
STRUCTS(X)
#undef X

#if __has_include(UBLK_HEADER_PATH)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wunused-function"
#include UBLK_HEADER_PATH
#pragma GCC diagnostic pop
#endif

namespace uapi_header_test {
namespace {

using namespace ublk::uapi;

class uapi_header : public testing::Test {
protected:
    void SetUp() override {
        std::ifstream file{UBLK_HEADER_PATH};
        if (!file) {
            GTEST_SKIP() << UBLK_HEADER_PATH << " is not there: install linux-libc-dev";
        }
        std::stringstream content;
        content << file.rdbuf();
        text_ = content.str();
    }

    // Every match of the pattern's first group in the header.
    [[nodiscard]] std::set<std::string> found(const char* pattern) const {
        std::set<std::string> names;
        const std::regex expression{pattern, std::regex::ECMAScript | std::regex::multiline};
        for (std::sregex_iterator at{text_.begin(), text_.end(), expression}, end; at != end;
             ++at) {
            names.insert((*at)[1].str());
        }
        return names;
    }

    void report(const char* text) const {
        if (text_.find("UBLK_F_IO_DESC_SIZE") != std::string::npos) {
            EXPECT_EQ(newer_, 0) << "a header of Linux 7.3 or later lacks a name it should have";
        }
        RecordProperty("compared", compared_);
        RecordProperty("newer_than_header", newer_);
        std::cout << "uapi: " << text << ": " << compared_ << " compared, " << newer_
                  << " of ours newer than " << UBLK_HEADER_PATH << '\n';
    }

    std::string text_;
    int compared_ = 0;
    int newer_ = 0;
};

class uapi_header_values : public uapi_header {
protected:
    void check(const char*, fallback::absent, auto) { ++newer_; }

    template <class Theirs, class Ours>
    void check(const char* name, Theirs theirs, Ours ours) {
        ++compared_;
        EXPECT_EQ(static_cast<std::int64_t>(theirs), static_cast<std::int64_t>(ours)) << name;
    }
};

TEST_F(uapi_header_values, agree_with_ours_and_none_is_missing) {
    using namespace fallback;
    std::set<std::string> ours;
#define X(name, value)                                                                             \
    check(#name, name, value);                                                                     \
    ours.insert(#name);
    NAMES(X)
#undef X
    const std::set<std::string> theirs = found(R"(^[ \t]*#[ \t]*define[ \t]+(UBLK\w*))");
    EXPECT_GT(theirs.size(), 30u) << "the scan of the header found next to nothing";
    for (const std::string& name : theirs) {
        EXPECT_TRUE(ours.contains(name))
            << name << " is new in " << UBLK_HEADER_PATH << ": add it to uapi.hpp and to NAMES";
    }
    // The scan and the preprocessor must have read the same file.
    EXPECT_EQ(static_cast<std::size_t>(compared_), theirs.size());
    report("values");
}

class uapi_header_structs : public uapi_header {
protected:
    template <class Theirs>
    void check_size(const char* name, std::size_t ours, bool grew) {
        if constexpr (requires { sizeof(Theirs); }) {
            ++compared_;
            if (grew) {
                EXPECT_LE(sizeof(Theirs), ours) << name;
            } else {
                EXPECT_EQ(sizeof(Theirs), ours) << name;
            }
        } else {
            ++newer_;
        }
    }
};

TEST_F(uapi_header_structs, have_the_size_of_ours_and_none_is_missing) {
    std::set<std::string> ours;
#define X(theirs, mine, grew)                                                                      \
    check_size<struct theirs>(#theirs, sizeof(ublk::uapi::mine), grew);                            \
    ours.insert(#theirs);
    STRUCTS(X)
#undef X
    for (const std::string& name : found(R"(^[ \t]*struct[ \t]+(ublk\w*)[ \t]*\{)")) {
        EXPECT_TRUE(ours.contains(name))
            << name << " is new in " << UBLK_HEADER_PATH << ": add it to uapi.hpp and to STRUCTS";
    }
    report("structs");
}

TEST_F(uapi_header_structs, have_every_field_where_ours_have_it) {
    // A template, so that a field the header lacks is an answer and not an error.
#define X(theirs, field, mine, my_field)                                                           \
    [this]<class Theirs>(std::type_identity<Theirs>) {                                             \
        if constexpr (requires(Theirs & value) { value.field; }) {                                 \
            ++compared_;                                                                           \
            EXPECT_EQ(offsetof(Theirs, field), offsetof(ublk::uapi::mine, my_field))               \
                << #theirs "." #field;                                                             \
            EXPECT_EQ(sizeof(std::declval<Theirs&>().field),                                       \
                      sizeof(std::declval<ublk::uapi::mine&>().my_field))                          \
                << #theirs "." #field;                                                             \
        } else {                                                                                   \
            ++newer_;                                                                              \
        }                                                                                          \
    }(std::type_identity<struct theirs>{});
    FIELDS(X)
#undef X
    report("fields");
}

}  // namespace
}  // namespace uapi_header_test
