# Installation and export, so that find_package(regroup) gives the same target names as the build tree.
