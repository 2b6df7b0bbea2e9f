// The one door to HDF5: no other file includes its headers. Every call's return code is checked and
// comes back as a one-line text with the innermost entry of HDF5's error stack; the library itself
// prints nothing. Files are written in one fixed format without time stamps, so that the same calls
// give the same bytes. They are written through a FileSystem whose first error is kept and reported
// while HDF5 sees none, because it crashes in closing what it could not write. Calls are serialised
// by a lock of this wrapper's own, since most builds of HDF5 are not thread-safe: different threads
// may use different objects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/host/file_system.hpp"
#include "runtime/protocol/field.hpp"

namespace regroup {

// For people: "HDF5 1.10.8, not thread-safe, serial".
std::string hdf5_description();

namespace hdf5 {

template <class T>
using Expected = std::expected<T, std::string>;

// Little-endian in the file.
using regroup::element_bytes;
using regroup::ElementType;

// What an attribute holds. Text is stored with a fixed length: no NUL in it, attribute_bytes_max at
// most.
using Value = std::variant<std::string, std::int64_t, std::uint64_t, double>;
inline constexpr std::size_t attribute_bytes_max = 60'000;  // an object header takes 64 KiB

// Owns one HDF5 identifier and closes it, ignoring errors, when it goes.
class Handle {
 public:
  Handle() = default;
  explicit Handle(std::int64_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Handle& operator=(Handle&& other) noexcept;
  ~Handle() { reset(); }

  std::int64_t get() const { return id_; }
  bool is_open() const { return id_ >= 0; }
  std::int64_t release() { return std::exchange(id_, -1); }
  void reset() noexcept;

 private:
  std::int64_t id_ = -1;
};

// Bytes of a file, counted from its very beginning.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  std::uint64_t end() const { return offset + bytes; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

// What became of the writes to one created file, known to the file and to all its objects.
struct WriteStatus {
  FileSystem* file_system = nullptr;
  FileDescriptor descriptor;  // outlives HDF5's file, to be synced after it
  int error_number = 0;       // of the first call that failed; nothing is written after it
  bool abandoned = false;     // nothing more is to be written
  Extent last_raw;            // where the latest elements went that HDF5 itself wrote

  bool writes() const { return error_number == 0 && !abandoned; }
};

// Anything that carries attributes: a group or a dataset. A change also fails when anything at all
// could not be written to its file before.
class Node {
 public:
  Node() = default;

  // Creates an attribute; it must not be there yet.
  Expected<void> put_attribute(const std::string& name, const Value& value);
  // An array of texts, one or more, in this order.
  Expected<void> put_attribute(const std::string& name, std::span<const std::string> texts);
  // An array of numbers, one or more.
  Expected<void> put_attribute(const std::string& name, std::span<const std::uint64_t> numbers);
  Expected<void> put_attribute(const std::string& name, std::span<const double> numbers);
  // An ASCII text that ends with a NUL in the file too, as HDF5's own conventions (such as that for
  // images) ask for.
  Expected<void> put_terminated_text(const std::string& name, const std::string& text);

  // Nothing when there is no such attribute; an error when it is of a kind that Value does not
  // have.
  Expected<std::optional<Value>> attribute(const std::string& name) const;
  // Empty when there is no such attribute.
  Expected<std::vector<std::string>> text_attributes(const std::string& name) const;
  // The names of all attributes, in alphabetical order.
  Expected<std::vector<std::string>> attribute_names() const;

  Expected<void> close();

 protected:
  friend class Group;
  Node(Handle handle, std::shared_ptr<WriteStatus> status)
      : handle_(std::move(handle)), status_(std::move(status)) {}

  Handle handle_;
  std::shared_ptr<WriteStatus> status_;  // none in a file that is read
};

// What storage holds before it is written. kNothing saves writing everything twice, and is for
// datasets of which every element will be written: contiguous ones then have their place in the
// file from the start, chunked ones do not grow.
enum class Fill : std::uint8_t { kZeros, kNothing };

// How a dataset is laid out. Chunked datasets grow by append(); a contiguous one has its size from
// the start.
struct Layout {
  std::uint64_t rows = 0;        // at creation
  std::uint64_t chunk_rows = 0;  // 0: contiguous
  int deflate_level = 0;         // 0: not compressed; 1 to 9 needs chunks
  Fill fill = Fill::kZeros;
};

// What a chunk that is written as it will be stored went through: shuffle and deflate, as its
// dataset's deflate level says, or neither.
enum class Filters : std::uint8_t { kApplied, kSkipped };

// Part of a virtual dataset: all rows of another file's one-dimensional dataset appear as its block
// [start, start + extent), in C order. A relative file name counts from where the virtual dataset's
// own file is.
struct VirtualPiece {
  std::string file;
  std::string dataset;
  std::vector<std::uint64_t> start;  // one a dimension, as the extent
  std::vector<std::uint64_t> extent;
};

// What elements of a virtual dataset read as that no piece covers.
enum class Missing : std::uint8_t { kZero, kNotANumber };

struct VirtualLayout {
  std::vector<std::uint64_t> shape;  // one a dimension, the slowest first
  Missing missing = Missing::kZero;  // kNotANumber: of float64
};

// A one-dimensional dataset.
class Dataset : public Node {
 public:
  Dataset() = default;

  ElementType type() const { return type_; }
  std::uint64_t rows() const { return rows_; }

  // Bytes are whole elements in memory order (little-endian). A write that fails leaves the dataset
  // unspecified: give the file up.
  Expected<void> write(std::uint64_t first_row, std::span<const std::byte> bytes);
  Expected<void> append(std::span<const std::byte> bytes);
  Expected<void> read(std::uint64_t first_row, std::span<std::byte> bytes) const;

  // For Fill::kNothing. Where a contiguous dataset lies; nothing if it has no rows.
  Expected<Extent> storage() const;
  // Writes elements to their place in `storage` without HDF5 and its lock: not while another thread
  // uses an object of this file.
  Expected<void> write_raw(const Extent& storage, std::uint64_t first_row,
                           std::span<const std::byte> bytes);
  // Writes the chunk that begins at `first_row`, a whole one, as it is to be stored; returns where.
  Expected<Extent> write_chunk(std::uint64_t first_row, std::span<const std::byte> stored,
                               Filters filters);

 private:
  friend class Group;
  Dataset(Handle handle, std::shared_ptr<WriteStatus> status, ElementType type, std::uint64_t rows)
      : Node(std::move(handle), std::move(status)), type_(type), rows_(rows) {}

  ElementType type_ = ElementType::kUint8;
  std::uint64_t rows_ = 0;
};

// A dataset of one or more dimensions, the slowest first, stored contiguously where it was created
// here.
class Array : public Node {
 public:
  Array() = default;

  ElementType type() const { return type_; }
  const std::vector<std::uint64_t>& shape() const { return shape_; }

  // All elements, in C order (little-endian). As for a dataset, a write that fails leaves it
  // unspecified.
  Expected<void> write(std::span<const std::byte> bytes);
  // Those in [start, start + extent), which lies inside, in C order; one number a dimension.
  Expected<void> read(std::span<const std::uint64_t> start, std::span<const std::uint64_t> extent,
                      std::span<std::byte> bytes) const;

 private:
  friend class Group;
  Array(Handle handle, std::shared_ptr<WriteStatus> status, ElementType type,
        std::vector<std::uint64_t> shape)
      : Node(std::move(handle), std::move(status)), type_(type), shape_(std::move(shape)) {}

  ElementType type_ = ElementType::kUint8;
  std::vector<std::uint64_t> shape_;
};

class Group : public Node {
 public:
  Group() = default;

  Expected<Group> create_group(const std::string& name);
  Expected<Group> open_group(const std::string& name) const;
  Expected<Dataset> create_dataset(const std::string& name, ElementType type, const Layout& layout);
  // Needs Format::k110. What comes back is for attributes.
  Expected<Node> create_virtual_dataset(const std::string& name, ElementType type,
                                        const VirtualLayout& layout,
                                        std::span<const VirtualPiece> pieces);
  Expected<Dataset> open_dataset(const std::string& name) const;
  // At least one element along each dimension.
  Expected<Array> create_array(const std::string& name, ElementType type,
                               std::span<const std::uint64_t> shape);
  // Of 1 to 3 dimensions. Floating-point numbers of any width and byte order read as float64.
  Expected<Array> open_array(const std::string& name) const;
  // The names of the datasets right in the group, in alphabetical order.
  Expected<std::vector<std::string>> dataset_names() const;
  // Whether a link of this name is there, whatever it leads to.
  Expected<bool> has(const std::string& name) const;

 private:
  friend class File;
  using Node::Node;
};

// Which versions of HDF5 read a file: 1.8 and newer, or, for virtual datasets, 1.10 and newer.
enum class Format : std::uint8_t { k18, k110 };

struct FileOptions {
  Format format = Format::k18;
  // Bytes at the file's beginning that HDF5 leaves to others: 0, or a power of two from 512 on that
  // is not less than the alignment.
  std::uint64_t user_block_bytes = 0;
  // Storage of at least 64 KiB begins at a multiple of this; 1: anywhere.
  std::uint64_t alignment_bytes = 1;
};

// Objects of a file may outlive it; they then fail.
class File {
 public:
  File() = default;
  File(File&&) noexcept = default;
  File& operator=(File&& other) noexcept;
  // A created file that was not closed is abandoned: what it holds is not to be used.
  ~File();

  // The file must not be there yet.
  static Expected<File> create(const std::filesystem::path& path,
                               FileSystem& file_system = FileSystem::real(),
                               const FileOptions& options = {});
  static Expected<File> open_read_only(const std::filesystem::path& path);

  Expected<Group> root() const;
  // At most the bytes that were asked for.
  Expected<void> write_user_block(std::span<const std::byte> bytes);
  // Hands everything to the operating system.
  Expected<void> flush();
  // Closes the file and every object still open in it. Of a created file, success means that all
  // of it was written and synced; its name in the directory is the caller's to sync. Other threads
  // may use HDF5 while the disk syncs.
  Expected<void> close();

 private:
  File(Handle handle, std::shared_ptr<WriteStatus> status, std::uint64_t user_block_bytes)
      : handle_(std::move(handle)),
        status_(std::move(status)),
        user_block_bytes_(user_block_bytes) {}
  void abandon() noexcept;

  Handle handle_;
  std::shared_ptr<WriteStatus> status_;  // none in a file that is read
  std::uint64_t user_block_bytes_ = 0;
};

}  // namespace hdf5
}  // namespace regroup
