// SPDX-License-Identifier: MIT
#include "async_specimens.hpp"

using ublk::data_path;
using file_disk_by_paths = by_paths<file_disk, data_path::copy, data_path::fixed_copy,
                                    data_path::zero_copy, data_path::auto_buffer>;
using handing_disk_by_paths = by_paths<handing_disk, data_path::copy, data_path::user_copy>;
using paging_disk_by_paths = by_paths<paging_disk, data_path::pages>;

UBLK_LAWS_OF(file_disk, ::file_disk_by_paths)
UBLK_LAWS_OF(handing_disk, ::handing_disk_by_paths)
UBLK_LAWS_OF(paging_disk, ::paging_disk_by_paths)
