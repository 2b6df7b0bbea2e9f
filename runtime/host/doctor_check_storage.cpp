// The doctor on the run directory: which file system it is on, and whether what runs rely on works
// there.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "runtime/host/doctor_checks.hpp"

namespace regroup::doctor {
namespace {

constexpr std::uint64_t kDirectoryFreeBytesMin = 1ULL << 30;

enum class Reach { kThisNode, kAllNodes, kUnknown };

struct FileSystemKind {
  std::uint64_t type;  // statfs(2), linux/magic.h and the file systems' own sources
  const char* name;
  Reach reach;
};

constexpr std::array kFileSystemKinds = {
    FileSystemKind{0xEF53, "ext4", Reach::kThisNode},
    FileSystemKind{0x58465342, "xfs", Reach::kThisNode},
    FileSystemKind{0x9123683E, "btrfs", Reach::kThisNode},
    FileSystemKind{0x2FC12FC1, "zfs", Reach::kThisNode},
    FileSystemKind{0xF2F52010, "f2fs", Reach::kThisNode},
    FileSystemKind{0x794C7630, "overlay", Reach::kThisNode},
    FileSystemKind{0x01021994, "tmpfs", Reach::kThisNode},
    FileSystemKind{0x858458F6, "ramfs", Reach::kThisNode},
    FileSystemKind{0x6969, "NFS", Reach::kAllNodes},
    FileSystemKind{0x0BD00BD0, "Lustre", Reach::kAllNodes},
    FileSystemKind{0x47504653, "GPFS", Reach::kAllNodes},
    FileSystemKind{0x19830326, "BeeGFS", Reach::kAllNodes},
    FileSystemKind{0x00C36400, "CephFS", Reach::kAllNodes},
    FileSystemKind{0xAAD7AAEA, "PanFS", Reach::kAllNodes},
    FileSystemKind{0xFF534D42, "CIFS", Reach::kAllNodes},
    FileSystemKind{0xFE534D42, "SMB", Reach::kAllNodes},
    FileSystemKind{0x01021997, "9P", Reach::kUnknown},
    FileSystemKind{0x65735546, "FUSE", Reach::kUnknown},
};

FileSystemKind kind_of(std::uint64_t type) {
  // f_type is a signed word: a magic number above 2^31 may come sign-extended.
  const std::uint64_t low = type & 0xFFFFFFFFULL;
  for (const FileSystemKind& kind : kFileSystemKinds) {
    if (kind.type == low) return kind;
  }
  return {low, "unknown type", Reach::kUnknown};
}

// Whether all nodes that answer see the directory, and some do.
bool is_seen_by_nodes(const std::vector<NodeFacts>& nodes) {
  const auto answers = [](const NodeFacts& node) { return node.problem.empty(); };
  return std::ranges::any_of(nodes, answers) &&
         std::ranges::all_of(
             nodes, [&](const NodeFacts& node) { return !answers(node) || node.sees_file; });
}

}  // namespace

std::optional<Finding> check_directory(const DoctorFacts& facts) {
  if (!facts.directory)
    return missing(facts.directory.error(), "go to a directory that exists, or give --dir");
  const DoctorFacts::FileSystem& disk = *facts.directory;
  const FileSystemKind kind = kind_of(disk.type);
  const std::string_view name = kind.name;
  const std::string found = fmt::format("{} on {}, {} free of {}", disk.path, name,
                                        size_text(disk.bytes_free), size_text(disk.bytes_total));
  if (!disk.writable)
    return warning(found, "it cannot be written to: give --dir with a directory that can");
  if (disk.bytes_free < kDirectoryFreeBytesMin)
    return warning(found,
                   "little space is left for checkpoints and results: free some, or give another "
                   "--dir");
  if (name == "tmpfs" || name == "ramfs")
    return warning(found,
                   "it is memory: a run directory here is lost with the node; give --dir on a "
                   "disk");
  if (name == "NFS")
    return warning(found,
                   "NFS is slow for checkpoints and its caches lag; prefer a parallel file system "
                   "for --dir");
  if (kind.reach != Reach::kThisNode || is_seen_by_nodes(facts.nodes)) return ok(found);
  const std::string advice =
      "only this node sees it: a run on several nodes needs --dir on a shared one";
  return facts.nodes.size() > 1 ? warning(found, advice) : ok(found, advice);
}

std::optional<Finding> check_file_operations(const DoctorFacts& facts) {
  if (!facts.directory || !facts.directory->writable) return std::nullopt;
  const DoctorFacts::FileOperations& tried = facts.file_operations;
  if (!tried.create_problem.empty())
    return missing("creating files: " + tried.create_problem, "give --dir on another file system");
  if (!tried.link_problem.empty())
    return missing(
        "link(2): " + tried.link_problem,
        "checkpoints and the tokens that keep two halves of a run apart need hard links: "
        "give --dir on another file system");
  if (!tried.lock_problem.empty())
    return missing("flock(2): " + tried.lock_problem,
                   "a run keeps a second one out of its directory with a lock: mount the file "
                   "system with locks (Lustre: -o flock; NFS: without nolock), or give another "
                   "--dir");
  return ok("exclusive creation, hard links and locks work");
}

}  // namespace regroup::doctor
