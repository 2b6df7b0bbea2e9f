#include "runtime/host/hdf5_wrapper.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <mutex>
#include <string_view>
#include <type_traits>

#include <fcntl.h>
#include <fmt/format.h>
#include <hdf5.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

static_assert(std::is_same_v<hid_t, std::int64_t>, "HDF5 1.10 or newer");
static_assert(std::endian::native == std::endian::little, "datasets are little-endian");

// Held around every call into the library. Switches the printing of errors off for this thread: a
// thread-safe HDF5 has that setting per thread.
class Call {
 public:
  Call() : lock_(mutex()) {
    thread_local const bool quiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
    static_cast<void>(quiet);
  }

 private:
  static std::recursive_mutex& mutex() {
    static std::recursive_mutex the_mutex;
    return the_mutex;
  }
  std::lock_guard<std::recursive_mutex> lock_;
};

extern "C" herr_t keep_innermost(unsigned depth, const H5E_error2_t* entry, void* text) {
  if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(text) = entry->desc;
  return 0;
}

// One line: the system's own text where the entry quotes it, else the entry.
std::string shortened(std::string_view text) {
  constexpr std::size_t length_max = 200;
  constexpr std::string_view quote = "error message = '";
  if (const auto at = text.find(quote); at != text.npos) {
    text.remove_prefix(at + quote.size());
    text = text.substr(0, text.find('\''));
  }
  std::string line(text.substr(0, length_max));
  std::ranges::replace_if(
      line, [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  return line;
}

// To be called right after `call` failed, before any other call clears the error stack.
std::unexpected<std::string> failed(const char* call) {
  std::string innermost;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &innermost);
  return std::unexpected(
      fmt::format("{} (HDF5: {})", innermost.empty() ? "failed" : shortened(innermost), call));
}

bool is_failure(herr_t code) {
  return code < 0;
}

}  // namespace

std::string hdf5_description() {
  const Call call;
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  hbool_t thread_safe = false;
  if (is_failure(H5get_libversion(&major, &minor, &release)) ||
      is_failure(H5is_library_threadsafe(&thread_safe)))
    return "HDF5, version unknown";
#ifdef H5_HAVE_PARALLEL
  constexpr const char* flavour = "parallel";
#else
  constexpr const char* flavour = "serial";
#endif
  return fmt::format("HDF5 {}.{}.{}, {}thread-safe, {}", major, minor, release,
                     thread_safe ? "" : "not ", flavour);
}

namespace hdf5 {
namespace {

// ---- How files are written ----
//
// A file driver that writes through a FileSystem, as HDF5's own `sec2` does through the system. The
// difference is in what HDF5 gets to see of a failure: nothing. HDF5 1.10 that could not write a
// piece of metadata or a cached chunk closes its objects by halves and crashes when they are closed
// again. So the first error goes into the WriteStatus, which every operation of this wrapper looks
// at, and the rest of the file's writes go nowhere.

constexpr haddr_t kAddressMax = (haddr_t{1} << 62) - 1;
constexpr hsize_t kAlignedBytesMin = 65'536;  // smaller storage goes where there is room

// HDF5 copies it byte by byte; the pointer is good while the file is being opened.
struct DriverInfo {
  const std::shared_ptr<WriteStatus>* status;
};

struct WrittenFile {
  H5FD_t public_part;  // HDF5's own; must come first
  std::shared_ptr<WriteStatus> status;
  haddr_t allocated_end;
  haddr_t file_end;
};

static_assert(std::is_standard_layout_v<WrittenFile>, "a pointer to its first part is one to it");

WrittenFile* written(H5FD_t* file) {
  return reinterpret_cast<WrittenFile*>(file);
}
const WrittenFile* written(const H5FD_t* file) {
  return reinterpret_cast<const WrittenFile*>(file);
}

void keep_error(WriteStatus& status) {
  if (status.error_number == 0) status.error_number = errno != 0 ? errno : EIO;
}

extern "C" H5FD_t* driver_open(const char* path, unsigned, hid_t access, haddr_t) {
  const auto* info = static_cast<const DriverInfo*>(H5Pget_driver_info(access));
  if (info == nullptr) return nullptr;
  WriteStatus& status = **info->status;
  status.descriptor =
      FileDescriptor(*status.file_system,
                     status.file_system->open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!status.descriptor.is_open()) {
    keep_error(status);
    return nullptr;
  }
  auto* file = new WrittenFile{};
  file->status = *info->status;
  return &file->public_part;
}

// The descriptor stays with the WriteStatus.
extern "C" herr_t driver_close(H5FD_t* file) {
  delete written(file);
  return 0;
}

// As `sec2` has them, so that the file is laid out in the same way.
extern "C" herr_t driver_query(const H5FD_t*, unsigned long* features) {
  *features = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
              H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

extern "C" haddr_t driver_get_eoa(const H5FD_t* file, H5FD_mem_t) {
  return written(file)->allocated_end;
}
extern "C" herr_t driver_set_eoa(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  written(file)->allocated_end = end;
  return 0;
}
extern "C" haddr_t driver_get_eof(const H5FD_t* file, H5FD_mem_t) {
  return written(file)->file_end;
}

// Bytes never written read as zeros.
extern "C" herr_t driver_read(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size,
                              void* buffer) {
  const WrittenFile* file = written(base);
  auto* bytes = static_cast<char*>(buffer);
  while (size > 0) {
    const ssize_t count = file->status->file_system->pread(file->status->descriptor.get(), bytes,
                                                           size, static_cast<off_t>(address));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) keep_error(*file->status);
    if (count <= 0) break;
    bytes += count;
    size -= static_cast<size_t>(count);
    address += static_cast<haddr_t>(count);
  }
  std::fill_n(bytes, size, '\0');
  return 0;
}

// The first error goes into the status, and nothing is written after it.
void write_at(WriteStatus& status, std::span<const std::byte> bytes, std::uint64_t address) {
  while (!bytes.empty() && status.writes()) {
    errno = 0;
    const ssize_t count = status.file_system->pwrite(status.descriptor.get(), bytes.data(),
                                                     bytes.size(), static_cast<off_t>(address));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      keep_error(status);
      break;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    address += static_cast<std::uint64_t>(count);
  }
}

extern "C" herr_t driver_write(H5FD_t* base, H5FD_mem_t type, hid_t, haddr_t address, size_t size,
                               const void* buffer) {
  WrittenFile* file = written(base);
  file->file_end = std::max(file->file_end, address + size);
  if (type == H5FD_MEM_DRAW) file->status->last_raw = {address, size};
  write_at(*file->status, {static_cast<const std::byte*>(buffer), size}, address);
  return 0;
}

extern "C" herr_t driver_truncate(H5FD_t* base, hid_t, hbool_t) {
  WrittenFile* file = written(base);
  if (file->file_end == file->allocated_end) return 0;
  const auto length = static_cast<off_t>(file->allocated_end);
  if (file->status->writes() &&
      file->status->file_system->ftruncate(file->status->descriptor.get(), length) != 0)
    keep_error(*file->status);
  file->file_end = file->allocated_end;
  return 0;
}

H5FD_class_t driver_class() {
  constexpr H5FD_mem_t free_lists[H5FD_MEM_NTYPES] = H5FD_FLMAP_DICHOTOMY;
  H5FD_class_t driver{};
#ifdef H5FD_CLASS_VERSION  // HDF5 1.13 and newer
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(511);  // of the range for drivers of one's own
#endif
  driver.name = "regroup";
  driver.maxaddr = kAddressMax;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(DriverInfo);
  driver.open = driver_open;
  driver.close = driver_close;
  driver.query = driver_query;
  driver.get_eoa = driver_get_eoa;
  driver.set_eoa = driver_set_eoa;
  driver.get_eof = driver_get_eof;
  driver.read = driver_read;
  driver.write = driver_write;
  driver.truncate = driver_truncate;
  std::ranges::copy(free_lists, driver.fl_map);
  return driver;
}

// The driver's identifier, registered once and kept for the life of the process.
hid_t driver_id() {
  static const H5FD_class_t driver = driver_class();
  static const hid_t id = H5FDregister(&driver);
  return id;
}

// What to say of an operation on a file that is written.
Expected<void> settled(const std::shared_ptr<WriteStatus>& status, Expected<void> done) {
  if (status && status->error_number != 0) return std::unexpected(errno_text(status->error_number));
  return done;
}

// ---- Types, spaces, attributes ----
//
// From here on the callers hold a Call.

hid_t file_type(ElementType type) {
  switch (type) {
    case ElementType::kUint8:
      return H5T_STD_U8LE;
    case ElementType::kInt64:
      return H5T_STD_I64LE;
    case ElementType::kUint64:
      return H5T_STD_U64LE;
    case ElementType::kFloat64:
      return H5T_IEEE_F64LE;
  }
  return H5I_INVALID_HID;
}

// On a little-endian machine the bytes are the same in memory and in the file.
hid_t memory_type(ElementType type) {
  return file_type(type);
}

Expected<ElementType> element_type_of(hid_t type) {
  for (const auto candidate :
       {ElementType::kUint8, ElementType::kInt64, ElementType::kUint64, ElementType::kFloat64}) {
    const htri_t equal = H5Tequal(type, file_type(candidate));
    if (equal < 0) return failed("H5Tequal");
    if (equal > 0) return candidate;
  }
  return std::unexpected("its element type is none of uint8, int64, uint64, float64");
}

// As element_type_of, and other floating-point numbers as what they are converted to.
Expected<ElementType> converted_type_of(hid_t type) {
  if (H5Tget_class(type) == H5T_FLOAT) return ElementType::kFloat64;
  return element_type_of(type);
}

// A fixed-length UTF-8 type of `length` bytes, filled up with NULs.
Expected<Handle> text_type(std::size_t length) {
  Handle type(H5Tcopy(H5T_C_S1));
  if (!type.is_open()) return failed("H5Tcopy");
  if (is_failure(H5Tset_size(type.get(), std::max<std::size_t>(length, 1))))
    return failed("H5Tset_size");
  if (is_failure(H5Tset_strpad(type.get(), H5T_STR_NULLPAD))) return failed("H5Tset_strpad");
  if (is_failure(H5Tset_cset(type.get(), H5T_CSET_UTF8))) return failed("H5Tset_cset");
  return type;
}

Expected<Handle> scalar_space() {
  Handle space(H5Screate(H5S_SCALAR));
  if (!space.is_open()) return failed("H5Screate");
  return space;
}

Expected<Handle> row_space(std::uint64_t rows, bool may_grow) {
  const hsize_t current = rows;
  const hsize_t maximum = may_grow ? H5S_UNLIMITED : current;
  Handle space(H5Screate_simple(1, &current, &maximum));
  if (!space.is_open()) return failed("H5Screate_simple");
  return space;
}

Expected<void> write_attribute(hid_t object, const std::string& name, hid_t type, hid_t space,
                               const void* bytes) {
  Handle attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT));
  if (!attribute.is_open()) return failed("H5Acreate2");
  if (is_failure(H5Awrite(attribute.get(), type, bytes))) return failed("H5Awrite");
  if (is_failure(H5Aclose(attribute.release()))) return failed("H5Aclose");
  return {};
}

Expected<void> write_text_attribute(hid_t object, const std::string& name, hid_t space,
                                    std::span<const std::string> texts) {
  std::size_t length = 1;
  for (const auto& text : texts) length = std::max(length, text.size());
  if (length * texts.size() > attribute_bytes_max)
    return std::unexpected(
        fmt::format("attribute '{}' is longer than {} bytes", name, attribute_bytes_max));
  std::string bytes;
  for (const auto& text : texts) bytes.append(text).append(length - text.size(), '\0');
  const auto type = text_type(length);
  if (!type) return std::unexpected(type.error());
  return write_attribute(object, name, type->get(), space, bytes.data());
}

template <class T>
Expected<void> put_numbers(hid_t object, const std::shared_ptr<WriteStatus>& status,
                           const std::string& name, ElementType type, std::span<const T> numbers) {
  const Call call;
  const auto space = row_space(numbers.size(), false);
  if (!space) return std::unexpected(space.error());
  return settled(status,
                 write_attribute(object, name, file_type(type), space->get(), numbers.data()));
}

// An attribute that was opened, with what is needed to read it.
struct OpenAttribute {
  Handle attribute;
  Handle type;
  std::uint64_t elements = 0;
};

Expected<std::optional<OpenAttribute>> open_attribute(hid_t object, const std::string& name) {
  const htri_t exists = H5Aexists(object, name.c_str());
  if (exists < 0) return failed("H5Aexists");
  if (exists == 0) return std::optional<OpenAttribute>();
  OpenAttribute open;
  open.attribute = Handle(H5Aopen(object, name.c_str(), H5P_DEFAULT));
  if (!open.attribute.is_open()) return failed("H5Aopen");
  open.type = Handle(H5Aget_type(open.attribute.get()));
  if (!open.type.is_open()) return failed("H5Aget_type");
  const Handle space(H5Aget_space(open.attribute.get()));
  if (!space.is_open()) return failed("H5Aget_space");
  const hssize_t elements = H5Sget_simple_extent_npoints(space.get());
  if (elements < 0) return failed("H5Sget_simple_extent_npoints");
  open.elements = static_cast<std::uint64_t>(elements);
  return std::optional<OpenAttribute>(std::move(open));
}

Expected<std::vector<std::string>> read_texts(const OpenAttribute& open, const std::string& name) {
  const htri_t variable = H5Tis_variable_str(open.type.get());
  if (variable < 0) return failed("H5Tis_variable_str");
  const std::size_t length = H5Tget_size(open.type.get());
  if (H5Tget_class(open.type.get()) != H5T_STRING || variable > 0 || length == 0 ||
      open.elements > (attribute_bytes_max + length) / length)
    return std::unexpected(fmt::format("attribute '{}' is not a text of fixed length", name));
  std::string bytes(length * open.elements, '\0');
  if (is_failure(H5Aread(open.attribute.get(), open.type.get(), bytes.data())))
    return failed("H5Aread");
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < open.elements; ++i) {
    const std::string text = bytes.substr(i * length, length);
    texts.push_back(text.substr(0, text.find('\0')));
  }
  return texts;
}

template <class T>
Expected<Value> read_number(const OpenAttribute& open, ElementType type) {
  T number{};
  if (is_failure(H5Aread(open.attribute.get(), memory_type(type), &number)))
    return failed("H5Aread");
  return Value(number);
}

Expected<Value> read_value(const OpenAttribute& open, const std::string& name) {
  if (open.elements != 1)
    return std::unexpected(fmt::format("attribute '{}' does not hold one value", name));
  if (H5Tget_class(open.type.get()) == H5T_STRING) {
    auto texts = read_texts(open, name);
    if (!texts) return std::unexpected(texts.error());
    return Value(std::move(texts->front()));
  }
  const auto type = element_type_of(open.type.get());
  if (!type) return std::unexpected(fmt::format("attribute '{}': {}", name, type.error()));
  switch (*type) {
    case ElementType::kInt64:
      return read_number<std::int64_t>(open, *type);
    case ElementType::kUint64:
      return read_number<std::uint64_t>(open, *type);
    case ElementType::kFloat64:
      return read_number<double>(open, *type);
    case ElementType::kUint8:
      break;
  }
  return std::unexpected(fmt::format("attribute '{}' is of an unknown kind", name));
}

extern "C" herr_t collect_name(hid_t, const char* name, const H5A_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

extern "C" herr_t collect_link(hid_t, const char* name, const H5L_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

// ---- Files and datasets ----

// What a new dataset is made with. The fill value is written at allocation, so that no byte of the
// file is left to chance.
Expected<Handle> creation_properties(const Layout& layout) {
  Handle properties(H5Pcreate(H5P_DATASET_CREATE));
  if (!properties.is_open()) return failed("H5Pcreate");
  const hid_t id = properties.get();
  if (is_failure(H5Pset_obj_track_times(id, false))) return failed("H5Pset_obj_track_times");
  const bool filled = layout.fill == Fill::kZeros;
  if (is_failure(H5Pset_fill_time(id, filled ? H5D_FILL_TIME_ALLOC : H5D_FILL_TIME_NEVER)))
    return failed("H5Pset_fill_time");
  if (!filled && layout.chunk_rows == 0 && is_failure(H5Pset_alloc_time(id, H5D_ALLOC_TIME_EARLY)))
    return failed("H5Pset_alloc_time");
  if (layout.chunk_rows == 0) return properties;
  const hsize_t chunk = layout.chunk_rows;
  if (is_failure(H5Pset_chunk(id, 1, &chunk))) return failed("H5Pset_chunk");
  if (layout.deflate_level == 0) return properties;
  if (is_failure(H5Pset_shuffle(id))) return failed("H5Pset_shuffle");
  if (is_failure(H5Pset_deflate(id, static_cast<unsigned>(layout.deflate_level))))
    return failed("H5Pset_deflate");
  return properties;
}

Expected<Handle> block_space(std::span<const std::uint64_t> shape) {
  const std::vector<hsize_t> extent(shape.begin(), shape.end());
  Handle space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr));
  if (!space.is_open()) return failed("H5Screate_simple");
  return space;
}

Expected<Handle> virtual_properties(ElementType type, Missing missing) {
  Handle properties(H5Pcreate(H5P_DATASET_CREATE));
  if (!properties.is_open()) return failed("H5Pcreate");
  if (is_failure(H5Pset_obj_track_times(properties.get(), false)))
    return failed("H5Pset_obj_track_times");
  if (missing == Missing::kZero) return properties;
  REGROUP_CHECK(type == ElementType::kFloat64, "what is not a number has a type that can say so");
  constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
  if (is_failure(H5Pset_fill_value(properties.get(), memory_type(type), &nothing)))
    return failed("H5Pset_fill_value");
  return properties;
}

// `space` has the shape; what is selected in it is changed.
Expected<void> add_mapping(hid_t properties, hid_t space, std::span<const std::uint64_t> shape,
                           const VirtualPiece& piece) {
  REGROUP_CHECK(piece.start.size() == shape.size() && piece.extent.size() == shape.size(),
                "a piece has the dimensions of its dataset");
  std::uint64_t rows = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    REGROUP_CHECK(piece.start[i] <= shape[i] && piece.extent[i] <= shape[i] - piece.start[i],
                  "a piece lies inside its dataset");
    rows *= piece.extent[i];
  }
  if (rows == 0) return {};
  const std::vector<hsize_t> start(piece.start.begin(), piece.start.end());
  const std::vector<hsize_t> count(piece.extent.begin(), piece.extent.end());
  const auto source = row_space(rows, false);
  if (!source) return std::unexpected(source.error());
  if (is_failure(
          H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr)))
    return failed("H5Sselect_hyperslab");
  if (is_failure(H5Pset_virtual(properties, space, piece.file.c_str(), piece.dataset.c_str(),
                                source->get())))
    return failed("H5Pset_virtual");
  return {};
}

// For reading when there is no status.
Expected<Handle> access_properties(const std::shared_ptr<WriteStatus>& status,
                                   const FileOptions& options) {
  Handle properties(H5Pcreate(H5P_FILE_ACCESS));
  if (!properties.is_open()) return failed("H5Pcreate");
  const hid_t id = properties.get();
  const DriverInfo info{&status};
  if (status == nullptr && is_failure(H5Pset_fapl_sec2(id))) return failed("H5Pset_fapl_sec2");
  if (status != nullptr && driver_id() < 0) return failed("H5FDregister");
  if (status != nullptr && is_failure(H5Pset_driver(id, driver_id(), &info)))
    return failed("H5Pset_driver");
  if (is_failure(H5Pset_fclose_degree(id, H5F_CLOSE_STRONG))) return failed("H5Pset_fclose_degree");
  // The 1.8 format: every HDF5 since 2008 reads it, and its metadata has checksums.
  const auto newest = options.format == Format::k18 ? H5F_LIBVER_V18 : H5F_LIBVER_V110;
  if (is_failure(H5Pset_libver_bounds(id, H5F_LIBVER_V18, newest)))
    return failed("H5Pset_libver_bounds");
  if (options.alignment_bytes > 1 &&
      is_failure(H5Pset_alignment(id, kAlignedBytesMin, options.alignment_bytes)))
    return failed("H5Pset_alignment");
  // The run directory has its own lock; HDF5's would only fail where the file system knows no
  // locks.
  if (is_failure(H5Pset_file_locking(id, false, true))) return failed("H5Pset_file_locking");
  return properties;
}

// The file's dataspace with `count` rows from `first_row` on selected.
Expected<Handle> selected_rows(hid_t dataset, std::uint64_t first_row, std::uint64_t count) {
  Handle space(H5Dget_space(dataset));
  if (!space.is_open()) return failed("H5Dget_space");
  const hsize_t start = first_row;
  const hsize_t length = count;
  if (is_failure(
          H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, &start, nullptr, &length, nullptr)))
    return failed("H5Sselect_hyperslab");
  return space;
}

// The two dataspaces of a transfer of rows.
struct Transfer {
  Handle memory;
  Handle file;
};

Expected<Transfer> transfer(hid_t dataset, std::uint64_t first_row, std::uint64_t count) {
  auto memory = row_space(count, false);
  if (!memory) return std::unexpected(memory.error());
  auto file = selected_rows(dataset, first_row, count);
  if (!file) return std::unexpected(file.error());
  return Transfer{std::move(*memory), std::move(*file)};
}

constexpr int kArrayDimensionsMax = 3;

Expected<std::vector<std::uint64_t>> shape_of(hid_t dataset) {
  const Handle space(H5Dget_space(dataset));
  if (!space.is_open()) return failed("H5Dget_space");
  const int dimensions = H5Sget_simple_extent_ndims(space.get());
  if (dimensions < 1 || dimensions > kArrayDimensionsMax)
    return std::unexpected(fmt::format("it has not 1 to {} dimensions", kArrayDimensionsMax));
  std::vector<hsize_t> extent(static_cast<std::size_t>(dimensions));
  if (H5Sget_simple_extent_dims(space.get(), extent.data(), nullptr) < 0)
    return failed("H5Sget_simple_extent_dims");
  return std::vector<std::uint64_t>(extent.begin(), extent.end());
}

std::uint64_t elements_of(std::span<const std::uint64_t> extent) {
  std::uint64_t elements = 1;
  for (const std::uint64_t count : extent) elements *= count;
  return elements;
}

}  // namespace

// ---- Handle, Node, Dataset, Array, Group, File: what the header promises ----

Handle& Handle::operator=(Handle&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, -1);
  }
  return *this;
}

void Handle::reset() noexcept {
  if (id_ < 0) return;
  const Call call;
  // A file closed with H5F_CLOSE_STRONG has taken its objects along: then there is nothing to do.
  if (H5Iis_valid(id_) > 0) H5Idec_ref(id_);
  id_ = -1;
}

Expected<void> Node::put_attribute(const std::string& name, const Value& value) {
  const Call call;
  const auto space = scalar_space();
  if (!space) return std::unexpected(space.error());
  const auto write = [&](const auto& held) -> Expected<void> {
    using Held = std::remove_cvref_t<decltype(held)>;
    if constexpr (std::is_same_v<Held, std::string>) {
      return write_text_attribute(handle_.get(), name, space->get(), {&held, 1});
    } else {
      constexpr auto type = std::is_same_v<Held, double>         ? ElementType::kFloat64
                            : std::is_same_v<Held, std::int64_t> ? ElementType::kInt64
                                                                 : ElementType::kUint64;
      return write_attribute(handle_.get(), name, file_type(type), space->get(), &held);
    }
  };
  return settled(status_, std::visit(write, value));
}

Expected<void> Node::put_attribute(const std::string& name, std::span<const std::string> texts) {
  const Call call;
  const auto space = row_space(texts.size(), false);
  if (!space) return std::unexpected(space.error());
  return settled(status_, write_text_attribute(handle_.get(), name, space->get(), texts));
}

Expected<void> Node::put_attribute(const std::string& name,
                                   std::span<const std::uint64_t> numbers) {
  return put_numbers(handle_.get(), status_, name, ElementType::kUint64, numbers);
}

Expected<void> Node::put_attribute(const std::string& name, std::span<const double> numbers) {
  return put_numbers(handle_.get(), status_, name, ElementType::kFloat64, numbers);
}

Expected<void> Node::put_terminated_text(const std::string& name, const std::string& text) {
  const Call call;
  const auto space = scalar_space();
  if (!space) return std::unexpected(space.error());
  const Handle type(H5Tcopy(H5T_C_S1));  // ASCII, ended by a NUL
  if (!type.is_open()) return failed("H5Tcopy");
  if (is_failure(H5Tset_size(type.get(), text.size() + 1))) return failed("H5Tset_size");
  return settled(status_,
                 write_attribute(handle_.get(), name, type.get(), space->get(), text.c_str()));
}

Expected<std::optional<Value>> Node::attribute(const std::string& name) const {
  const Call call;
  const auto open = open_attribute(handle_.get(), name);
  if (!open) return std::unexpected(open.error());
  if (!*open) return std::optional<Value>();
  auto value = read_value(**open, name);
  if (!value) return std::unexpected(value.error());
  return std::optional<Value>(std::move(*value));
}

Expected<std::vector<std::string>> Node::text_attributes(const std::string& name) const {
  const Call call;
  const auto open = open_attribute(handle_.get(), name);
  if (!open) return std::unexpected(open.error());
  if (!*open) return std::vector<std::string>();
  return read_texts(**open, name);
}

Expected<std::vector<std::string>> Node::attribute_names() const {
  const Call call;
  std::vector<std::string> names;
  if (is_failure(
          H5Aiterate2(handle_.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_name, &names)))
    return failed("H5Aiterate2");
  return names;
}

Expected<void> Node::close() {
  const Call call;
  Expected<void> done;
  if (handle_.is_open() && H5Idec_ref(handle_.release()) < 0) done = failed("H5Idec_ref");
  return settled(status_, std::move(done));
}

Expected<void> Dataset::write(std::uint64_t first_row, std::span<const std::byte> bytes) {
  const Call call;
  const std::uint64_t count = bytes.size() / element_bytes(type_);
  REGROUP_CHECK(bytes.size() % element_bytes(type_) == 0, "whole elements are written");
  REGROUP_CHECK(first_row <= rows_ && count <= rows_ - first_row, "writes stay inside the dataset");
  if (count == 0) return {};
  const auto spaces = transfer(handle_.get(), first_row, count);
  if (!spaces) return std::unexpected(spaces.error());
  if (is_failure(H5Dwrite(handle_.get(), memory_type(type_), spaces->memory.get(),
                          spaces->file.get(), H5P_DEFAULT, bytes.data())))
    return settled(status_, failed("H5Dwrite"));
  return settled(status_, {});
}

Expected<void> Dataset::append(std::span<const std::byte> bytes) {
  const Call call;
  const std::uint64_t first_row = rows_;
  const hsize_t rows = rows_ + bytes.size() / element_bytes(type_);
  if (is_failure(H5Dset_extent(handle_.get(), &rows))) return failed("H5Dset_extent");
  rows_ = rows;
  return write(first_row, bytes);
}

Expected<void> Dataset::read(std::uint64_t first_row, std::span<std::byte> bytes) const {
  const Call call;
  const std::uint64_t count = bytes.size() / element_bytes(type_);
  REGROUP_CHECK(bytes.size() % element_bytes(type_) == 0, "whole elements are read");
  REGROUP_CHECK(first_row <= rows_ && count <= rows_ - first_row, "reads stay inside the dataset");
  if (count == 0) return {};
  const auto spaces = transfer(handle_.get(), first_row, count);
  if (!spaces) return std::unexpected(spaces.error());
  if (is_failure(H5Dread(handle_.get(), memory_type(type_), spaces->memory.get(),
                         spaces->file.get(), H5P_DEFAULT, bytes.data())))
    return failed("H5Dread");
  return {};
}

Expected<Extent> Dataset::storage() const {
  const Call call;
  if (rows_ == 0) return Extent{};
  const haddr_t address = H5Dget_offset(handle_.get());
  if (address == HADDR_UNDEF) return failed("H5Dget_offset");
  return Extent{address, rows_ * element_bytes(type_)};
}

Expected<void> Dataset::write_raw(const Extent& storage, std::uint64_t first_row,
                                  std::span<const std::byte> bytes) {
  const std::uint64_t start = first_row * element_bytes(type_);
  REGROUP_CHECK(start <= storage.bytes && bytes.size() <= storage.bytes - start,
                "writes stay inside the dataset");
  write_at(*status_, bytes, storage.offset + start);
  return settled(status_, {});
}

// HDF5 says where a chunk is, but not every version counts the user block: so what the driver was
// told counts.
Expected<Extent> Dataset::write_chunk(std::uint64_t first_row, std::span<const std::byte> stored,
                                      Filters filters) {
  const Call call;
  constexpr std::uint32_t all_skipped = 3;  // a bit for each of shuffle and deflate
  const hsize_t offset = first_row;
  status_->last_raw = {};
  if (is_failure(H5Dwrite_chunk(handle_.get(), H5P_DEFAULT,
                                filters == Filters::kApplied ? 0 : all_skipped, &offset,
                                stored.size(), stored.data())))
    return std::unexpected(settled(status_, failed("H5Dwrite_chunk")).error());
  if (auto done = settled(status_, {}); !done) return std::unexpected(done.error());
  if (status_->last_raw.bytes != stored.size())
    return std::unexpected("HDF5 did not write a chunk as it is");
  return status_->last_raw;
}

Expected<void> Array::write(std::span<const std::byte> bytes) {
  const Call call;
  REGROUP_CHECK(bytes.size() == elements_of(shape_) * element_bytes(type_),
                "an array is written as a whole");
  Expected<void> done;
  if (is_failure(
          H5Dwrite(handle_.get(), memory_type(type_), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data())))
    done = failed("H5Dwrite");
  return settled(status_, std::move(done));
}

Expected<void> Array::read(std::span<const std::uint64_t> start,
                           std::span<const std::uint64_t> extent,
                           std::span<std::byte> bytes) const {
  const Call call;
  REGROUP_CHECK(start.size() == shape_.size() && extent.size() == shape_.size(),
                "a block has the dimensions of its array");
  for (std::size_t i = 0; i < shape_.size(); ++i)
    REGROUP_CHECK(start[i] <= shape_[i] && extent[i] <= shape_[i] - start[i],
                  "reads stay inside the array");
  const std::uint64_t count = elements_of(extent);
  REGROUP_CHECK(bytes.size() == count * element_bytes(type_), "as many bytes as the block has");
  if (count == 0) return {};
  const auto memory = row_space(count, false);
  if (!memory) return std::unexpected(memory.error());
  const Handle space(H5Dget_space(handle_.get()));
  if (!space.is_open()) return failed("H5Dget_space");
  const std::vector<hsize_t> first(start.begin(), start.end());
  const std::vector<hsize_t> counts(extent.begin(), extent.end());
  if (is_failure(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, first.data(), nullptr,
                                     counts.data(), nullptr)))
    return failed("H5Sselect_hyperslab");
  if (is_failure(H5Dread(handle_.get(), memory_type(type_), memory->get(), space.get(), H5P_DEFAULT,
                         bytes.data())))
    return failed("H5Dread");
  return {};
}

Expected<Group> Group::create_group(const std::string& name) {
  const Call call;
  const Handle properties(H5Pcreate(H5P_GROUP_CREATE));
  if (!properties.is_open()) return failed("H5Pcreate");
  if (is_failure(H5Pset_obj_track_times(properties.get(), false)))
    return failed("H5Pset_obj_track_times");
  Handle group(H5Gcreate2(handle_.get(), name.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  if (!group.is_open()) return failed("H5Gcreate2");
  return Group(std::move(group), status_);
}

Expected<Group> Group::open_group(const std::string& name) const {
  const Call call;
  Handle group(H5Gopen2(handle_.get(), name.c_str(), H5P_DEFAULT));
  if (!group.is_open()) return failed("H5Gopen2");
  return Group(std::move(group), status_);
}

Expected<Dataset> Group::create_dataset(const std::string& name, ElementType type,
                                        const Layout& layout) {
  const Call call;
  REGROUP_CHECK(layout.deflate_level == 0 || layout.chunk_rows != 0, "compression needs chunks");
  const bool may_grow = layout.chunk_rows != 0 && layout.fill == Fill::kZeros;
  const auto space = row_space(layout.rows, may_grow);
  if (!space) return std::unexpected(space.error());
  const auto properties = creation_properties(layout);
  if (!properties) return std::unexpected(properties.error());
  Handle dataset(H5Dcreate2(handle_.get(), name.c_str(), file_type(type), space->get(), H5P_DEFAULT,
                            properties->get(), H5P_DEFAULT));
  if (!dataset.is_open()) return failed("H5Dcreate2");
  return Dataset(std::move(dataset), status_, type, layout.rows);
}

Expected<Node> Group::create_virtual_dataset(const std::string& name, ElementType type,
                                             const VirtualLayout& layout,
                                             std::span<const VirtualPiece> pieces) {
  const Call call;
  const auto space = block_space(layout.shape);
  if (!space) return std::unexpected(space.error());
  const auto properties = virtual_properties(type, layout.missing);
  if (!properties) return std::unexpected(properties.error());
  for (const auto& piece : pieces)
    if (auto done = add_mapping(properties->get(), space->get(), layout.shape, piece); !done)
      return std::unexpected(done.error());
  Handle dataset(H5Dcreate2(handle_.get(), name.c_str(), file_type(type), space->get(), H5P_DEFAULT,
                            properties->get(), H5P_DEFAULT));
  if (!dataset.is_open()) return failed("H5Dcreate2");
  if (auto done = settled(status_, {}); !done) return std::unexpected(done.error());
  return Node(std::move(dataset), status_);
}

Expected<Dataset> Group::open_dataset(const std::string& name) const {
  const Call call;
  Handle dataset(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT));
  if (!dataset.is_open()) return failed("H5Dopen2");
  const Handle type(H5Dget_type(dataset.get()));
  if (!type.is_open()) return failed("H5Dget_type");
  const auto element_type = element_type_of(type.get());
  if (!element_type) return std::unexpected(element_type.error());
  const Handle space(H5Dget_space(dataset.get()));
  if (!space.is_open()) return failed("H5Dget_space");
  if (H5Sget_simple_extent_ndims(space.get()) != 1)
    return std::unexpected("it is not one-dimensional");
  hsize_t rows = 0;
  if (is_failure(H5Sget_simple_extent_dims(space.get(), &rows, nullptr)))
    return failed("H5Sget_simple_extent_dims");
  return Dataset(std::move(dataset), status_, *element_type, rows);
}

Expected<Array> Group::create_array(const std::string& name, ElementType type,
                                    std::span<const std::uint64_t> shape) {
  const Call call;
  const auto space = block_space(shape);
  if (!space) return std::unexpected(space.error());
  const auto properties = creation_properties({});
  if (!properties) return std::unexpected(properties.error());
  Handle dataset(H5Dcreate2(handle_.get(), name.c_str(), file_type(type), space->get(), H5P_DEFAULT,
                            properties->get(), H5P_DEFAULT));
  if (!dataset.is_open()) return failed("H5Dcreate2");
  return Array(std::move(dataset), status_, type, {shape.begin(), shape.end()});
}

Expected<Array> Group::open_array(const std::string& name) const {
  const Call call;
  Handle dataset(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT));
  if (!dataset.is_open()) return failed("H5Dopen2");
  const Handle type(H5Dget_type(dataset.get()));
  if (!type.is_open()) return failed("H5Dget_type");
  const auto element_type = converted_type_of(type.get());
  if (!element_type) return std::unexpected(element_type.error());
  auto shape = shape_of(dataset.get());
  if (!shape) return std::unexpected(shape.error());
  return Array(std::move(dataset), status_, *element_type, std::move(*shape));
}

Expected<std::vector<std::string>> Group::dataset_names() const {
  const Call call;
  std::vector<std::string> names;
  if (is_failure(
          H5Literate(handle_.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_link, &names)))
    return failed("H5Literate");
  // What cannot be opened is no dataset.
  std::erase_if(names, [&](const std::string& name) {
    const Handle object(H5Oopen(handle_.get(), name.c_str(), H5P_DEFAULT));
    return !object.is_open() || H5Iget_type(object.get()) != H5I_DATASET;
  });
  return names;
}

Expected<bool> Group::has(const std::string& name) const {
  const Call call;
  const htri_t exists = H5Lexists(handle_.get(), name.c_str(), H5P_DEFAULT);
  if (exists < 0) return failed("H5Lexists");
  return exists > 0;
}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    abandon();
    handle_ = std::move(other.handle_);
    status_ = std::move(other.status_);
    user_block_bytes_ = other.user_block_bytes_;
  }
  return *this;
}

File::~File() {
  abandon();
}

void File::abandon() noexcept {
  if (status_) status_->abandoned = true;
  handle_.reset();
  if (status_) status_->descriptor.close();
}

Expected<File> File::create(const std::filesystem::path& path, FileSystem& file_system,
                            const FileOptions& options) {
  const Call call;
  auto status = std::make_shared<WriteStatus>();
  status->file_system = &file_system;
  const auto access = access_properties(status, options);
  if (!access) return std::unexpected(access.error());
  const Handle creation(H5Pcreate(H5P_FILE_CREATE));
  if (!creation.is_open()) return failed("H5Pcreate");
  if (is_failure(H5Pset_obj_track_times(creation.get(), false)))
    return failed("H5Pset_obj_track_times");
  if (options.user_block_bytes != 0 &&
      is_failure(H5Pset_userblock(creation.get(), options.user_block_bytes)))
    return failed("H5Pset_userblock");
  Handle handle(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.get(), access->get()));
  Expected<void> done;
  if (!handle.is_open()) done = failed("H5Fcreate");
  done = settled(status, std::move(done));
  File file(std::move(handle), status, options.user_block_bytes);
  if (!done) return std::unexpected(done.error());
  return file;
}

Expected<File> File::open_read_only(const std::filesystem::path& path) {
  const Call call;
  const auto access = access_properties(nullptr, {});
  if (!access) return std::unexpected(access.error());
  Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access->get()));
  if (!file.is_open()) return failed("H5Fopen");
  return File(std::move(file), nullptr, 0);
}

Expected<Group> File::root() const {
  const Call call;
  Handle group(H5Gopen2(handle_.get(), "/", H5P_DEFAULT));
  if (!group.is_open()) return failed("H5Gopen2");
  return Group(std::move(group), status_);
}

Expected<void> File::write_user_block(std::span<const std::byte> bytes) {
  const Call call;
  REGROUP_CHECK(status_ != nullptr && bytes.size() <= user_block_bytes_,
                "a user block holds what was asked for");
  write_at(*status_, bytes, 0);
  return settled(status_, {});
}

Expected<void> File::flush() {
  const Call call;
  Expected<void> done;
  if (is_failure(H5Fflush(handle_.get(), H5F_SCOPE_GLOBAL))) done = failed("H5Fflush");
  return settled(status_, std::move(done));
}

Expected<void> File::close() {
  Expected<void> done;
  {
    const Call call;
    if (handle_.is_open() && is_failure(H5Fclose(handle_.release()))) done = failed("H5Fclose");
  }
  if (status_ && status_->descriptor.is_open()) {
    if (status_->writes() && status_->file_system->fsync(status_->descriptor.get()) != 0)
      keep_error(*status_);
    if (status_->descriptor.close() != 0) keep_error(*status_);
  }
  return settled(status_, std::move(done));
}

}  // namespace hdf5
}  // namespace regroup
